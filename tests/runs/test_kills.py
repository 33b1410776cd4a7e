"""A process killed before or after any of its renames leaves the old state or the new one, and the next start goes on from it."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

import killed
import pytest
import small_shop
from safetensors.torch import load_file

from laserrec import Dataset, Laser
from laserrec.runs.folder import RunFolder
from laserrec.system.atomic import ENDING

PATIENCE = 120.0
TRAINING_KILLS = int(os.environ.get("LASERREC_KILLS", "2"))
"""Renames of a training at which it is killed, drawn from a seed; LASERREC_KILLS=1000 takes all."""


@pytest.fixture(scope="module")
def context() -> Iterator[ForkServerContext]:
    """Starts processes that have imported everything already."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["killed"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        yield context


def run(
    context: ForkServerContext, work: killed.Work, folder: Path, number: int, moment: str = "before", in_two_steps: bool = False
) -> bool:
    """Do work in a process; return whether it was killed."""
    process = context.Process(target=killed.killed_at, args=(work, folder, number, moment, in_two_steps))
    process.start()
    process.join(PATIENCE)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def write_log(folder: Path, items: int) -> None:
    rows = [f"u{user},i{(user + step) % items},{step}" for user in range(8) for step in range(5)]
    (folder / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(f".*{ENDING}") if "cache" not in path.parts]


@pytest.mark.parametrize("in_two_steps", [False, True], ids=["exchanged", "in two steps"])
def test_preparing_and_replacing_a_dataset(context: ForkServerContext, tmp_path: Path, in_two_steps: bool) -> None:
    fingerprints = set()
    for state, items in enumerate((6, 7)):
        write_log(tmp_path, items)
        number = 0
        while run(context, killed.save_dataset, tmp_path, number // 2, ("before", "after")[number % 2], in_two_steps):
            number += 1
            if (tmp_path / "data").exists() or state:  # once a dataset is there, there is always one
                fingerprints.add(Dataset.load(tmp_path / "data").fingerprint)
        assert number >= 2
        fingerprints.add(Dataset.load(tmp_path / "data").fingerprint)
        assert len(fingerprints) == state + 1
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["data", "log.csv", killed.COUNT])


@pytest.mark.parametrize("in_two_steps", [False, True], ids=["exchanged", "in two steps"])
def test_replacing_a_model(context: ForkServerContext, trained: Laser, tmp_path: Path, in_two_steps: bool) -> None:
    trained.save(tmp_path / "model")
    number, ids = 0, trained.item_ids
    while run(context, killed.save_model, tmp_path, number // 2, ("before", "after")[number % 2], in_two_steps):
        number += 1
        found = Laser.load(tmp_path / "model").item_ids
        assert found in (ids, [*ids, "lamp"])
        trained.save(tmp_path / "model")
        assert not leftovers(tmp_path)
    assert number >= 4
    assert Laser.load(tmp_path / "model").item_ids == [*ids, "lamp"]


def test_training(context: ForkServerContext, tmp_path: Path) -> None:
    """Killed at renames drawn from a seed, the first among them, and resumed each time: bit for bit as if it had not been."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for folder in (whole, stopped):
        small_shop.write_llm(folder / "llm")
        small_shop.dataset().save(folder / "data")
    assert not run(context, killed.train, whole, -1)
    renames = int((whole / killed.COUNT).read_text())
    chosen = [0, 1, *sorted(random.Random(3).sample(range(2, renames), min(TRAINING_KILLS, renames - 2)))]
    made = 0
    for place, number in enumerate(chosen):
        # What was done is not done again, so that each start has fewer renames than the whole.
        left = number if place < 2 else max(1, number - chosen[place - 1])
        made += run(context, killed.train, stopped, left, ("before", "after")[place % 2])
    assert made >= 3
    assert not run(context, killed.train, stopped, -1)
    assert RunFolder.open(stopped / "run").finished
    assert not leftovers(stopped)
    for name in ("laser.safetensors", "collaborative.safetensors"):
        one, other = (load_file(folder / "run" / "model" / name) for folder in (whole, stopped))
        assert one.keys() == other.keys()
        assert all(one[key].equal(other[key]) for key in one)
