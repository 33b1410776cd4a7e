"""A real Laser fit, stopped anywhere by an error, Ctrl-C or SIGKILL and resumed, ends bit for bit as an uninterrupted one."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import killable
import pytest
import torch
from torch import Tensor

from laserrec.system.files import read_tensors
from laserrec.system.progress import Observer
from laserrec.training.loop import CHECKPOINT

Weights = dict[str, Tensor]
PATIENCE = 60.0


class Stop(Exception):  # noqa: N818 - not an error
    """Somebody pulled the plug."""


class Plug(Observer):
    """Stops a fit after some steps or epochs of its own."""

    def __init__(self, steps: int | None = None, epochs: int | None = None) -> None:
        self.steps, self.epochs = steps, epochs

    def on_step(self, step: int, scalars: Mapping[str, float]) -> None:
        self.steps = self.count(self.steps)

    def on_epoch(self, record: Mapping[str, Any]) -> None:
        self.epochs = self.count(self.epochs)

    def count(self, left: int | None) -> int | None:
        if left == 1:
            raise Stop
        return None if left is None else left - 1


def identical(left: Weights, right: Weights) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture(scope="module", params=[True, False], ids=["stage1", "stage2"])
def refresh(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, refresh: bool) -> tuple[Weights, list[Mapping[str, Any]]]:
    system, result = killable.train(tmp_path_factory.mktemp("whole"), resume=False, refresh=refresh)
    assert result.history[-1]["step"] == killable.STEPS
    return system.model.state_dict(), [record["valid"] | record["train"] for record in result.history]


@pytest.mark.parametrize("number", range(8))
def test_stopped_at_random_steps(tmp_path: Path, whole: tuple[Weights, list[Mapping[str, Any]]], number: int, refresh: bool) -> None:
    chance, stops = random.Random(number), 0
    seconds = [0.0, 1e9][number % 2]
    for _ in range(99):
        plug = Plug(steps=chance.randint(1, 9)) if number < 6 else Plug(epochs=chance.randint(1, 2))
        try:
            system, result = killable.train(tmp_path, resume=True, seconds=seconds, observer=plug, refresh=refresh)
            break
        except Stop:
            stops += 1
    assert stops
    assert [record["valid"] | record["train"] for record in result.history] == whole[1]
    assert identical(system.model.state_dict(), whole[0])


class Forge:
    """Starts fits in processes of their own; what they import is imported once."""

    def __init__(self) -> None:
        self.context = get_context("forkserver")
        self.context.set_forkserver_preload(["killable"])
        self.running: BaseProcess | None = None

    def start(self, folder: Path, *, slow: bool = False) -> BaseProcess:
        self.running = self.context.Process(target=killable.main, args=(folder, True, slow))
        self.running.start()
        return self.running

    def wait(self, *until: Callable[[], bool]) -> bool:
        """Wait until all conditions hold; False when the process ended first."""
        assert self.running is not None
        deadline = time.monotonic() + PATIENCE
        while not all(condition() for condition in until):
            assert time.monotonic() < deadline, "the fit neither went on nor ended"
            if self.running.exitcode is not None:
                return False
            time.sleep(0.001)
        return True

    def finish(self, folder: Path) -> Weights:
        process = self.start(folder)
        process.join(PATIENCE)
        assert process.exitcode == 0
        return read_tensors(folder / killable.FINAL)[0]


@pytest.fixture(scope="module")
def forge() -> Iterator[Forge]:
    forge = Forge()
    with pytest.MonkeyPatch.context() as patch:
        # Where the server of processes looks for what it imports beforehand; without it every process imports for seconds.
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        yield forge
    if forge.running is not None:
        forge.running.kill()
        forge.running.join()


@pytest.fixture(scope="module")
def uninterrupted(forge: Forge, tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return forge.finish(tmp_path_factory.mktemp("uninterrupted"))


def steps(folder: Path) -> int:
    """Return the step of the last checkpoint, -1 before the first; read through one open file, for it may be replaced meanwhile."""
    try:
        with (folder / CHECKPOINT).open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    except FileNotFoundError:
        return -1
    return int(json.loads(header["__metadata__"]["state"])["progress"]["step"])


def partial(folder: Path) -> bool:
    return any(folder.glob(".*.partial"))


def kill(process: BaseProcess) -> bool:
    """Kill -9; whether it was still running."""
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def test_processes_agree(uninterrupted: Weights, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the other processes have: the order of a sum depends on it
    try:
        assert identical(killable.train(tmp_path, resume=False)[0].model.state_dict(), uninterrupted)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("number", range(2))
def test_killed_at_random_moments(forge: Forge, uninterrupted: Weights, tmp_path: Path, number: int) -> None:
    chance, kills = random.Random(number), 0
    for _ in range(4):
        process, goal = forge.start(tmp_path), steps(tmp_path) + chance.randint(1, 3)
        if forge.wait(lambda goal=goal: steps(tmp_path) >= goal):  # type: ignore[misc]
            time.sleep(chance.uniform(0, 0.02))
            kills += kill(process)
    assert kills  # on a busy machine some fits end before they are seen
    assert identical(forge.finish(tmp_path), uninterrupted)


def test_killed_in_the_middle_of_writing_a_checkpoint(forge: Forge, uninterrupted: Weights, tmp_path: Path) -> None:
    kills = torn = 0
    for goal in (-1, 1, 4):
        process = forge.start(tmp_path, slow=True)
        if forge.wait(lambda goal=goal: steps(tmp_path) >= goal, lambda: partial(tmp_path)):  # type: ignore[misc]
            kills += kill(process)
            torn += partial(tmp_path)
            assert steps(tmp_path) >= goal
    assert kills == 3
    assert torn
    assert identical(forge.finish(tmp_path), uninterrupted)


def test_ctrl_c(forge: Forge, uninterrupted: Weights, tmp_path: Path) -> None:
    process = forge.start(tmp_path, slow=True)
    assert forge.wait(lambda: steps(tmp_path) >= 2)
    os.kill(process.pid or 0, signal.SIGINT)
    process.join(PATIENCE)
    assert process.exitcode == killable.INTERRUPTED
    assert 2 <= steps(tmp_path) < killable.STEPS
    assert not (tmp_path / killable.FINAL).exists()
    assert identical(forge.finish(tmp_path), uninterrupted)
