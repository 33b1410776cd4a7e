"""Our own files, damaged at random from a seed: what cannot be read is an error of ours, and what is read is what was written.

`LASERREC_FUZZ_SECONDS=3600` goes on for an hour.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import small_shop
import torch

from laserrec import Dataset
from laserrec.errors import LaserrecError
from laserrec.evaluation.metrics import Evaluation
from laserrec.laser.folder import ModelFolder
from laserrec.runs.folder import RunFolder, read_results
from laserrec.system.files import read_tensors, write_tensors

SECONDS = float(os.environ.get("LASERREC_FUZZ_SECONDS", "0"))
CASES = 60
"""Damaged files a kind, in the normal suite."""
Read = Callable[[Path], object]


def damage(content: bytes, chance: random.Random) -> bytes:
    """Flip, cut, repeat, replace or insert bytes."""
    place = chance.randrange(max(1, len(content)))
    end = min(len(content), place + chance.choice((1, 1, 2, 8, 64)))
    noise = bytes(chance.choice((0, 1, 9, 34, 45, 48, 91, 92, 123, 127, 255)) for _ in range(chance.choice((1, 2, 8, 64))))
    bit = bytes([content[place] ^ 1 << chance.randrange(8)]) if content else b""
    return chance.choice(
        (
            content[:place] + bit + content[place + 1 :],
            content[:place],
            content[:place] + content[end:],
            content[:place] + noise + content[place:],
            content[:place] + noise + content[place + len(noise) :],
            content + noise,
        )
    )


def read_run(folder: Path) -> object:
    """Read everything that tables and reports read of a run; dates, versions and seconds may be anything of their type."""
    run = RunFolder.open(folder)
    assert run.compared is not None
    read_results(run)
    return run.config.model_dump()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained and evaluated run beside its dataset."""
    from laserrec.runs.folder import train_run

    root = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LASERREC_CACHE", str(root / "cache"))
        data = small_shop.dataset()
        data.save(root / "data")
        config = small_shop.config(small_shop.write_llm(root / "llm"))
        made = RunFolder.begin(root / "run", config, data, root / "data", command=["laserrec", "train"])
        train_run(made, data)
        made.finish()
    return root / "run"


KINDS: dict[str, tuple[str, Read]] = {
    "a dataset's manifest": ("data/manifest.json", lambda root: Dataset.load(root / "data").fingerprint),
    "a dataset's items": ("data/items.parquet", lambda root: Dataset.load(root / "data").items.rows()),
    "a dataset's events": ("data/interactions.parquet", lambda root: Dataset.load(root / "data").fingerprint),
    "run.json": ("run/run.json", lambda root: read_run(root / "run") and None),
    "ranks": ("run/ranks-test.parquet", lambda root: Evaluation.load(root / "run" / "ranks-test.parquet").metrics("full")),
    "laser.json": ("run/model/laser.json", lambda root: (ModelFolder.read(root / "run" / "model"), read_run(root / "run"))[0].catalogue),
    "a model's settings": ("run/model/config.json", lambda root: ModelFolder.read(root / "run" / "model").catalogue),
    "a model's weights": ("run/model/laser.safetensors", lambda root: ModelFolder.read(root / "run" / "model").catalogue),
    "a model's items": ("run/model/items.parquet", lambda root: ModelFolder.read(root / "run" / "model").catalogue),
}


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(run: Path, tmp_path: Path, kind: str) -> None:
    name, read = KINDS[kind]
    root = Path(shutil.copytree(run.parent, tmp_path / "copy"))
    expected, content, chance = read(root), (root / name).read_bytes(), random.Random(kind)
    end, tried = time.monotonic() + SECONDS / (len(KINDS) + 1), 0
    while tried < CASES or time.monotonic() < end:
        tried += 1
        (root / name).write_bytes(damage(content, chance))
        try:
            found = read(root)
        except LaserrecError:
            continue
        assert found == expected


def test_damaged_tensor_files(tmp_path: Path) -> None:
    tensors = {"weight": torch.arange(12.0).reshape(3, 4), "step": torch.tensor(7)}
    write_tensors(tmp_path / "x", tensors, {"progress": {"epoch": 1}})
    content, chance = (tmp_path / "x").read_bytes(), random.Random(5)
    end, tried = time.monotonic() + SECONDS / (len(KINDS) + 1), 0
    while tried < 10 * CASES or time.monotonic() < end:
        tried += 1
        (tmp_path / "x").write_bytes(damage(content, chance))
        try:
            found, state = read_tensors(tmp_path / "x")
        except LaserrecError:
            continue
        assert state == {"progress": {"epoch": 1}}
        assert found.keys() == tensors.keys()
        assert all(found[name].equal(tensors[name]) for name in tensors)
