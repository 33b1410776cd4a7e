"""The work in miniature: a few rows through the real training loop, timed, and the memory they take."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from laserrec.config import FitConfig
from laserrec.runs.planning.plan import Phase
from laserrec.system.devices import wait
from laserrec.system.resources import MemoryPeak
from laserrec.training.laser_task import LaserTask
from laserrec.training.loop import CHECKPOINT, Step, fit
from laserrec.training.sequential_task import CollaborativeTask

STEPS = 2
ON_GPU = 16
TaskT = TypeVar("TaskT", CollaborativeTask, LaserTask)


@dataclass(frozen=True)
class FitCost:
    """What a fit costs.

    Attributes:
        row: seconds a training row, forward, backward and its share of the optimiser's step.
        case: seconds a validation case.
        save: seconds a checkpoint.
        checkpoint: bytes of the checkpoint.
        kept: bytes of memory that stay while the fit goes on: moments, gradients, the best weights.
        activations: bytes of memory a row of a micro-batch, between forward and backward.
    """

    row: float
    case: float
    save: float
    checkpoint: int
    kept: int
    activations: int

    def phase(self, name: str, config: FitConfig, rows: int, cases: int) -> Phase:
        """Return the phase of a fit of so many training rows and validation cases: it validates and saves first and after each epoch."""
        check = cases * self.case + self.save
        return Phase(name, check, rows * self.row + check, config.epochs)


def sampled(task: TaskT, *, rows: int, cases: int) -> TaskT:
    """Return a task of the same model with the rows of a few steps and a few cases.

    Args:
        task: left as it is, but for its model.
        rows: of a step.
        cases: to validate on.
    """
    small = copy(task)
    small.histories = task.histories.take(some(len(task), STEPS * rows))
    small.valid = task.valid.take(some(len(task.valid), cases))
    return small


def try_fit(task: CollaborativeTask | LaserTask, config: FitConfig, folder: Path, *, rows: int) -> FitCost:
    """Run a fit in miniature: one epoch.

    Args:
        task: what `sampled` gave; its module is trained.
        config: how it will be trained.
        folder: for its checkpoint.
        rows: of a step.
    """
    device = next(task.module.parameters()).device
    activations = _try_step(task, min(rows, len(task)), device)
    timed = _Timed(task)
    changes = {"epochs": min(config.epochs, 1), "batch_size": rows, "micro_batch_size": None, "checkpoint_seconds": 3600.0}
    fit(timed, config.model_copy(update=changes), name=folder.name, seed=0, folder=folder, identity={})
    ended = time.perf_counter()
    return FitCost(
        row=(timed.validated[0] - timed.stepped) / len(task) if timed.stepped else 0.0,
        case=(timed.validated[1] - timed.validated[0]) / len(task.valid),
        save=ended - timed.validated[1],
        checkpoint=(folder / CHECKPOINT).stat().st_size,
        kept=kept_bytes(task.module),
        activations=activations,
    )


def kept_bytes(module: nn.Module) -> int:
    """Return the bytes that training a module keeps beside it: Adam's two moments, gradients, and the weights at their best.

    Counted and not measured: what a process has after a step holds what the step's activations have left behind as well.
    """
    trained: int = sum(weight.nbytes for weight in module.parameters() if weight.requires_grad)
    best: int = sum(tensor.nbytes for tensor in module.state_dict().values())
    return 3 * trained + best


def enough(count: int, device: torch.device) -> int:
    """Return how many of something to try on a device: a GPU takes about as long for few as for many, so few would tell nothing there.

    Args:
        count: enough on a CPU.
        device: where it is tried.
    """
    return count * ON_GPU if device.type == "cuda" else count


def some(count: int, wanted: int) -> NDArray[np.int64]:
    """Return the numbers of some of `count` rows, int64, always the same ones."""
    if wanted >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, wanted, replace=False))


def seconds_of(work: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


class _Timed:
    """A task that notes when it was asked for what."""

    def __init__(self, task: CollaborativeTask | LaserTask) -> None:
        self.task = task
        self.stepped = 0.0
        self.validated = (0.0, 0.0)

    @property
    def module(self) -> nn.Module:
        return self.task.module

    def __len__(self) -> int:
        return len(self.task)

    def start_epoch(self, epoch: int) -> None:
        self.task.start_epoch(epoch)

    def step(self, rows: Tensor, epoch: int) -> Step:
        self.stepped = self.stepped or time.perf_counter()
        return self.task.step(rows, epoch)

    def validate(self) -> dict[str, float]:
        began = time.perf_counter()
        found = self.task.validate()
        self.validated = (began, time.perf_counter())
        return found


def _try_step(task: CollaborativeTask | LaserTask, rows: int, device: torch.device) -> int:
    """Make one step, which also warms up, and return the bytes that a row takes."""
    if not rows:
        return 0
    task.module.train()
    with MemoryPeak(device) as memory:
        task.step(torch.arange(rows), 1).loss.backward()
    task.module.zero_grad(set_to_none=True)
    gc.collect()
    return memory.grown // rows
