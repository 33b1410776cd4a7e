"""Encoded texts on disk: what lies there, what belongs together, writers take turns, a killed one loses little."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import building
import pytest
import tiny
import torch
from building import INSTRUCTION, LINES, LLM, build, contents, keys, opened, shards
from safetensors import safe_open

from laserrec.errors import CheckpointError
from laserrec.text_cache.cache import TextCache
from laserrec.text_cache.disk import DiskStore

SCRIPT = Path(building.__file__)


def test_shards_are_small_and_hold_each_text_once(whole: Path) -> None:
    found = shards(whole)
    assert len(found) > 3
    # A shard's blocks, its index of 32 bytes a text and its header.
    assert all(path.stat().st_size < building.SHARD_BYTES * 1.2 for path in found)
    held = [key for path in found for key in keys(path)]
    assert len(held) == len(set(held)) == len(LINES)
    manifest = json.loads((found[0].parent / "manifest.json").read_text())
    assert manifest == {
        "format": 1, "llm": LLM.fingerprint(), "layers": 2, "row": [2, 2, 8], "dtype": "float32", "numbers": "exact",
        "instruction": INSTRUCTION,
    }  # fmt: skip
    assert {path.name for path in found[0].parent.iterdir()} == {"manifest.json", ".lock", *(path.name for path in found)}


def test_a_block_lies_in_one_piece_layer_by_layer(whole: Path) -> None:
    cache = opened(whole)
    with safe_open(shards(whole)[0], "pt") as file:
        rows, ends = file.get_tensor("rows"), file.get_tensor("ends")
    item = next(place for place, line in enumerate(LINES) if 2 * len(line) == int(ends[0]))
    found = cache.gather(torch.tensor([[item]]), torch.ones(1, 1, dtype=torch.bool))
    block = torch.cat([found.layer(layer)[0].movedim(2, 0)[len(INSTRUCTION) :] for layer in range(2)])
    firsts = [rows[int(end) - len(block) : int(end)] for end in ends if int(end) >= len(block)]
    assert any(torch.equal(block, first) for first in firsts)


def test_new_texts_extend_the_folder(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in shards(folder)}
    cache = TextCache(LLM, INSTRUCTION, [[5, 6, 7], *LINES[3:9], [8, 9]])
    cache.open(DiskStore.under(folder), writes=True)
    encoded: list[int] = []
    cache.build(encoded.append)
    assert encoded == [6, 8]
    (new,) = set(shards(folder)) - set(before)
    assert len(keys(new)) == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(
    ("llm", "instruction", "numbers"),
    [
        (tiny.backbone(keep=1), INSTRUCTION, "exact"),
        (tiny.backbone("qwen2"), INSTRUCTION, "exact"),
        (LLM, [*INSTRUCTION, 1], "exact"),
        (LLM, [], "exact"),
        (LLM, INSTRUCTION, "int8"),
    ],
)
def test_another_identity_is_another_folder(whole: Path, tmp_path: Path, llm: object, instruction: list[int], numbers: str) -> None:
    root = Path(shutil.copytree(whole, tmp_path / "texts"))
    cache = TextCache(llm, instruction, LINES, numbers=numbers)  # type: ignore[arg-type]
    cache.open(DiskStore.under(root), writes=True)
    assert cache.missing
    cache.build()
    assert len(list(root.iterdir())) == 2
    assert not opened(root).missing


def test_another_type_of_numbers_alone_is_another_folder(folder: Path) -> None:
    rough = tiny.backbone()
    rough.model.to(torch.bfloat16)
    rough._fingerprint = LLM.fingerprint()
    cache = TextCache(rough, INSTRUCTION, LINES)
    cache.open(DiskStore.under(folder), writes=True)
    assert cache.missing == sum(map(len, LINES))
    cache.build()
    manifests = {json.loads(path.read_text())["dtype"]: json.loads(path.read_text()) for path in folder.glob("*/manifest.json")}
    assert manifests["float32"] == {**manifests["bfloat16"], "dtype": "float32"}
    assert not opened(folder).missing


def test_two_processes_at_once(whole: Path, tmp_path: Path) -> None:
    both = [subprocess.Popen([sys.executable, str(SCRIPT), str(tmp_path), "0.01"]) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    held = [key for path in shards(tmp_path) for key in keys(path)]
    assert len(held) == len(set(held)) == len(LINES)
    assert torch.equal(contents(opened(tmp_path)), contents(opened(whole)))


def test_killed_and_resumed(whole: Path, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, str(SCRIPT), str(tmp_path), "0.1"])
    while len(shards(tmp_path)) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in shards(tmp_path)}
    assert len(kept) < len(shards(whole))
    partial = shards(tmp_path)[0].parent / ".shard-000009.safetensors.1.partial"
    partial.write_bytes(b"what a process killed while it wrote leaves")
    resumed = build(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert not partial.exists()
    # To the last bit: what is left is cut into the same batches.
    assert [path.read_bytes()[-4096:] for path in shards(tmp_path)] == [path.read_bytes()[-4096:] for path in shards(whole)]
    assert torch.equal(contents(resumed), contents(opened(whole)))


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "texts").write_text("a file")
    cache = opened(tmp_path / "texts", writes=True)
    with pytest.raises(CheckpointError, match=r"Cannot keep encoded texts in .*LASERREC_CACHE"):
        cache.build()


def test_reading_leaves_no_trace(whole: Path, tmp_path: Path) -> None:
    assert opened(tmp_path / "nothing").missing
    assert not (tmp_path / "nothing").exists()
    before = sorted(path.name for path in whole.rglob("*"))
    cache = opened(whole)
    cache = cache.extended([[1, 2]])
    cache.gather(torch.tensor([[len(LINES)]]), torch.ones(1, 1, dtype=torch.bool))
    assert sorted(path.name for path in whole.rglob("*")) == before
    assert cache.seconds > 0
