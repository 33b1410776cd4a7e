"""Encoded texts on disk: damage is found and mended, what cannot be opened is kept, writers take turns, a killed one loses little."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import building
import numpy as np
import pytest
import tiny
import torch
from building import INSTRUCTION, LINES, LLM, build, contents, descriptors
from safetensors import safe_open

from laserrec.errors import CheckpointError
from laserrec.nn import text_blocks, text_cache, text_store
from laserrec.nn.text_cache import TextCache

SCRIPT = Path(building.__file__)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_blocks, "ENCODE_TOKENS", building.BATCH_TOKENS)
    monkeypatch.setattr(text_cache, "SHARD_BYTES", building.SHARD_BYTES)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_blocks, "ENCODE_TOKENS", building.BATCH_TOKENS)
        patch.setattr(text_cache, "SHARD_BYTES", building.SHARD_BYTES)
        build(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of the built folder, to be harmed."""
    return Path(shutil.copytree(whole, tmp_path / "texts"))


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/shard-*.safetensors"))


def keys(path: Path) -> list[bytes]:
    with safe_open(path, "pt") as file:
        return [row.numpy().tobytes() for row in file.get_tensor("keys")]


def opened(folder: Path, *, writes: bool = False) -> TextCache:
    cache = TextCache(LLM, INSTRUCTION, LINES)
    cache.open(folder, writes=writes)
    return cache


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


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def missing(path: Path) -> None:
    path.unlink()


def flip(place: float) -> Callable[[Path], None]:
    """Flip one bit of a file, `place` of the way through."""

    def harm(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(place * (len(content) - 1))] ^= 4
        path.write_bytes(content)

    return harm


def foreign(path: Path) -> None:
    """Put a whole shard of another identity there."""
    other = path.parent.parent / "other"
    cache = TextCache(LLM, [], LINES)
    cache.open(other, writes=True)
    cache.build()
    shutil.copy(shards(other)[0], path)
    shutil.rmtree(other)


HARM = {"cut": cut, "empty": empty, "missing": missing, "foreign": foreign}
HARM |= {f"flip {place}": flip(place) for place in (0, 0.03, 0.2, 0.5, 0.9, 1)}


@pytest.mark.parametrize("harm", HARM.values(), ids=list(HARM))
@pytest.mark.parametrize("writes", [True, False])
def test_damage_is_found_and_never_used(whole: Path, folder: Path, harm: Callable[[Path], None], writes: bool) -> None:
    expected = contents(opened(whole))
    harm(shards(folder)[1])
    cache = opened(folder, writes=writes)
    torch.testing.assert_close(contents(cache), expected, rtol=1e-4, atol=1e-5)
    if writes:
        cache.build()
        again = opened(folder)
        assert again.complete
        assert not {key for path in shards(whole) for key in keys(path)} - {key for path in shards(folder) for key in keys(path)}
        # Nothing is left to encode: what was mended is read, from another process too.
        torch.testing.assert_close(contents(again), expected, rtol=1e-4, atol=1e-5)
        encoded: list[int] = []
        again.build(encoded.append)
        assert not encoded


def truncate(path: Path) -> None:
    os.truncate(path, 200)


def rebuild(path: Path) -> None:
    """Put, once, other texts' blocks of the same sizes where the folder's are: whole shards with the same names."""
    root = path.parent.parent
    if not (root / "again").exists():
        cache = TextCache(LLM, INSTRUCTION, LINES[::-1])
        cache.open(root / "again", writes=True)
        cache.build()
    shutil.copy(root / "again" / path.parent.name / path.name, path)


@pytest.mark.parametrize("writes", [True, False])
@pytest.mark.parametrize("harm", [*HARM.values(), truncate, rebuild], ids=[*HARM, "truncate", "rebuild"])
def test_harm_while_in_use(whole: Path, folder: Path, harm: Callable[[Path], None], writes: bool) -> None:
    expected = contents(opened(whole))
    # Memory for a text at a time, so that what was read, and found to be intact, is read again.
    cache = TextCache(LLM, INSTRUCTION, LINES, memory=1)
    cache.open(folder, writes=writes)
    for item in range(len(LINES)):
        cache.gather(torch.tensor([[item]]), torch.ones(1, 1, dtype=torch.bool))
    for path in shards(folder):
        harm(path)
    torch.testing.assert_close(contents(cache), expected, rtol=1e-4, atol=1e-5)
    if writes:
        torch.testing.assert_close(contents(opened(folder)), expected, rtol=1e-4, atol=1e-5)


def test_few_descriptors_are_enough(whole: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(SCRIPT), str(tmp_path), "0", "6"], check=True, timeout=300)
    assert len(shards(tmp_path)) == len(LINES) > 6
    read = torch.from_numpy(np.load(tmp_path / "read.npy"))
    assert torch.equal(read, contents(opened(tmp_path)))
    torch.testing.assert_close(read, contents(opened(whole)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("writes", [False, True])
def test_damage_to_several_blocks_of_a_batch_is_found(whole: Path, folder: Path, writes: bool) -> None:
    expected = contents(opened(whole))
    for path in shards(folder):
        with safe_open(path, "pt") as file:
            size = file.get_tensor("rows").nbytes
        data = bytearray(path.read_bytes())
        start = data.index(safe_rows(path))
        data[start : start + size] = bytes(size)
        path.write_bytes(data)
    cache = opened(folder, writes=writes)
    torch.testing.assert_close(contents(cache), expected, rtol=1e-4, atol=1e-5)


def safe_rows(path: Path) -> bytes:
    with safe_open(path, "pt") as file:
        found: bytes = file.get_tensor("rows").view(torch.uint8).numpy().tobytes()
    return found


class Slow(io.FileIO):
    """A file of which the system gives a few bytes at a time, and at the end no more."""

    fails = False

    def readinto(self, room: Any) -> int:  # noqa: ANN401
        if self.fails and len(room) < 100:
            raise OSError(errno.EIO, "Input/output error")
        return super().readinto(room[:97])


def test_little_by_little_is_no_damage_and_an_error_is_an_error(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = contents(opened(whole))
    cache = opened(whole)
    monkeypatch.setattr(Path, "open", lambda path, *_, **__: Slow(path))
    monkeypatch.setattr(TextCache, "_encode", lambda self, blocks: pytest.fail("is encoded again") if len(blocks) else None)
    assert torch.equal(contents(cache), expected)
    monkeypatch.undo()
    cache = opened(whole)
    monkeypatch.setattr(Path, "open", lambda path, *_, **__: Slow(path))
    monkeypatch.setattr(Slow, "fails", True)
    with pytest.raises(CheckpointError, match="Input/output error"):
        contents(cache)


def test_a_batch_opens_each_file_once(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, asked, plain = opened(whole), list[str](), Path.open

    def counted(path: Path, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        asked.append(path.name)
        return plain(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", counted)
    items = torch.arange(len(LINES))[torch.randperm(len(LINES), generator=torch.Generator().manual_seed(0))]
    cache.gather(items[:, None], torch.ones(len(items), 1, dtype=torch.bool))
    assert sorted(asked) == [path.name for path in shards(whole)]
    assert len(asked) < len(LINES)


def bounded(most: int = 50) -> Callable[[int], None]:
    """Make a listener to `build` that fails where it goes on and on."""
    calls: list[int] = []

    def told(done: int) -> None:
        calls.append(done)
        assert len(calls) < most, "build() does not end"

    return told


def test_without_descriptors_nothing_is_lost(whole: Path, folder: Path) -> None:
    before = {path: path.read_bytes() for path in shards(folder)}
    cache = opened(folder, writes=True)
    with descriptors(0), pytest.raises(CheckpointError, match=r"Cannot read encoded texts in .*Too many open files.*ulimit -n"):
        opened(folder)
    with descriptors(0), pytest.raises(CheckpointError, match=r"Cannot read encoded texts in .*ulimit -n"):
        contents(cache)
    outcomes = []
    for free in range(4):
        cache = opened(folder, writes=True)
        cache.extend([[5, 6, 7 + free]])
        with descriptors(free):
            try:
                cache.build(bounded())
                outcomes.append(True)
            except CheckpointError:
                outcomes.append(False)
    assert outcomes[0] is False
    assert outcomes[3] is True
    assert {path: path.read_bytes() for path in before} == before
    assert torch.equal(contents(opened(folder)), contents(opened(whole)))


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EMFILE, "ulimit -n"), (errno.ENFILE, "ulimit -n"), (errno.ENOMEM, "Free memory"), (errno.EACCES, "LASERREC_CACHE"),
        (errno.EIO, "Delete the file"),
    ],
)  # fmt: skip
def test_what_cannot_be_opened_is_no_damage(folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str) -> None:
    before, open_file = {path: path.read_bytes() for path in shards(folder)}, Path.open

    def fail(path: Path, mode: str = "r", **options: str | None) -> IO[Any]:
        if path == shards(folder)[1]:
            raise OSError(number, os.strerror(number), str(path))
        return open_file(path, mode, **options)

    cache = opened(folder, writes=True)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fail)
        for refused in (lambda: opened(folder), lambda: contents(cache)):
            with pytest.raises(CheckpointError, match=advice):
                refused()
    cache.extend([[5, 6, 7]])
    cache.build()
    assert {path: path.read_bytes() for path in before} == before
    assert torch.equal(contents(cache), contents(opened(folder)))


def test_a_write_that_leaves_nothing_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = opened(folder, writes=True)
    cache.extend([[5, 6, 7]])
    write = text_store.write_shard
    for harm in (missing, empty, truncate):

        def lose(path: Path, *what: object, harm: Callable[[Path], None] = harm) -> None:
            write(path, *what)  # type: ignore[arg-type]
            harm(path)

        with monkeypatch.context() as patch:
            patch.setattr(text_store, "write_shard", lose)
            with pytest.raises(CheckpointError, match=r"What was just written to .*shard-.*LASERREC_CACHE"):
                cache.build(bounded())
    cache.build()
    assert cache.complete


def test_what_another_mended_is_left_alone(folder: Path) -> None:
    *_, last = shards(folder)
    cut(last)
    first, second = opened(folder, writes=True), opened(folder, writes=True)  # both see it as damaged
    assert second._store is not None
    with second._store.writing():
        pass  # and is killed before it has mended anything
    third = opened(folder, writes=True)
    third.build()
    mended = {path: path.read_bytes() for path in shards(folder)}
    assert last not in mended
    first.extend([[5, 6, 7]])
    first.build()
    assert len(shards(folder)) == len(mended) + 1
    assert {path: path.read_bytes() for path in mended} == mended
    assert opened(folder).complete


def test_a_manifest_s_loss_is_harmless(whole: Path, folder: Path) -> None:
    manifest = shards(folder)[0].parent / "manifest.json"
    text = manifest.read_text()
    for place, harm in enumerate((missing, cut, empty)):
        harm(manifest)
        assert torch.equal(contents(opened(folder)), contents(opened(whole)))
        cache = opened(folder, writes=True)
        cache.extend([[place]])  # so that there is something to write
        cache.build()
        assert manifest.read_text() == text


def test_new_texts_extend_the_folder(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in shards(folder)}
    cache = TextCache(LLM, INSTRUCTION, [[5, 6, 7], *LINES[3:9], [8, 9]])
    cache.open(folder, writes=True)
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
    cache.open(root, writes=True)
    assert not cache.complete
    cache.build()
    assert len(list(root.iterdir())) == 2
    assert opened(root).complete


def test_another_type_of_numbers_alone_is_another_folder(folder: Path) -> None:
    rough = tiny.backbone()
    rough.model.to(torch.bfloat16)
    rough._fingerprint = LLM.fingerprint()
    cache = TextCache(rough, INSTRUCTION, LINES)
    cache.open(folder, writes=True)
    assert cache.missing == sum(map(len, LINES))
    cache.build()
    told = {json.loads(path.read_text())["dtype"]: json.loads(path.read_text()) for path in folder.glob("*/manifest.json")}
    assert told["float32"] == {**told["bfloat16"], "dtype": "float32"}
    assert opened(folder).complete


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
    assert not opened(tmp_path / "nothing").complete
    assert not (tmp_path / "nothing").exists()
    before = sorted(path.name for path in whole.rglob("*"))
    cache = opened(whole)
    cache.extend([[1, 2]])
    cache.gather(torch.tensor([[len(LINES)]]), torch.ones(1, 1, dtype=torch.bool))
    assert sorted(path.name for path in whole.rglob("*")) == before
    assert cache.seconds > 0
