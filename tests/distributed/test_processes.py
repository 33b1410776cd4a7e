"""Two processes that train together reach what one reaches, and each goes on from the other's checkpoints."""

from __future__ import annotations

import json
import os
import sys
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import together
from safetensors.torch import load_file

from laserrec.training.loop import CHECKPOINT
from laserrec.training.strategy import ALONE

PATIENCE = 120.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes made; `alone` below it has what one made."""
    folder = tmp_path_factory.mktemp("together")
    with pytest.raises(together.Stop):
        together.train(folder / "from one", together.sequential(), ALONE, last=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        context = get_context("forkserver")
        context.set_forkserver_preload(["together"])
        processes = [context.Process(target=together.main, args=(rank, 2, folder)) for rank in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(PATIENCE)
    assert [process.exitcode for process in processes] == [0, 0]
    for name, fit in together.ALONE_FITS.items():
        fit(folder / "alone" / name)
    return folder


def figures(folder: Path) -> list[dict[str, Any]]:
    """The epochs' losses and metrics, without their seconds."""
    record = json.loads((folder / together.RECORD).read_text())
    return [{**epoch["train"], **epoch["valid"], "best": record["best_epoch"]} for epoch in record["history"]]


def assert_equal(one: Path, other: Path, tolerance: float) -> None:
    for mine, theirs in zip(figures(one), figures(other), strict=True):
        assert mine == pytest.approx(theirs, rel=tolerance, abs=tolerance)
    mine, theirs = (load_file(folder / together.FINAL) for folder in (one, other))
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert float((tensor - theirs[name]).abs().max()) <= tolerance, name


def test_two_processes_train_what_one_does(folder: Path) -> None:
    assert len(figures(folder / "whole")) == 5
    assert figures(folder / "whole")[1]["loss"] > figures(folder / "whole")[4]["loss"]  # something was learnt
    assert_equal(folder / "whole", folder / "alone" / "whole", 1e-10)


def test_a_stage_of_laser_is_the_same_too(folder: Path) -> None:
    """In float32, which the language model computes in: Adam turns a last digit of a gradient near 0 into more of a weight."""
    assert_equal(folder / "laser", folder / "alone" / "laser", 1e-3)


def test_two_go_on_from_what_one_left(folder: Path) -> None:
    assert_equal(folder / "from one", folder / "alone" / "whole", 1e-10)


def test_one_goes_on_from_what_two_left(folder: Path) -> None:
    assert (folder / "stopped" / CHECKPOINT).is_file()
    result = together.train(folder / "stopped", together.sequential(), ALONE, resume=True)
    assert len(result.history) == 5
    assert_equal(folder / "stopped", folder / "alone" / "whole", 1e-10)


def test_noise_belongs_to_the_shard(folder: Path, tmp_path: Path) -> None:
    """Another number of shards draws other noise, so it is kept for a run."""
    together.train(tmp_path, together.sequential(), ALONE, shards=1)
    assert figures(tmp_path)[1]["loss"] != pytest.approx(figures(folder / "whole")[1]["loss"], rel=1e-6)


def test_who_does_what(folder: Path) -> None:
    found = [json.loads((folder / f"share-{rank}.json").read_text()) for rank in range(2)]
    assert found == [{"share": [0, 2, 4], "all": [0, 1]}, {"share": [1, 3], "all": [0, 1]}]
