"""What a stage is predicted to take: one step is tried and timed, and the rest follows by formulas."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from laserrec.config import FitConfig, RuntimeConfig
from laserrec.system.devices import wait
from laserrec.system.resources import MemoryPeak
from laserrec.training.laser_task import LaserTask
from laserrec.training.sequential_task import CollaborativeTask

ON_GPU = 16
"""A GPU takes about as long for few as for many, so as many times more are tried there."""
DISK_SPEED = 500e6
"""Bytes a second that a checkpoint is written with, about; of a fit's time a hundredth or less."""
MicroBatch = Literal["sequential_micro_batch", "laser_micro_batch"]
TaskT = TypeVar("TaskT", CollaborativeTask, LaserTask)


@dataclass(frozen=True)
class Estimate:
    """What a stage is predicted to take.

    Attributes:
        name: the stage's.
        once: seconds whatever the number of epochs.
        epoch: seconds an epoch.
        epochs: at most so many; how many it will be is not known beforehand.
        memory: bytes beside the process and the encoded texts, all the time.
        between_steps: bytes beside those at times, when no step's activations are there.
        batch: rows of an optimiser step.
        row: bytes of a row's activations, which a smaller micro-batch has less of.
        micro_batch: the runtime setting that bounds those rows.
        run: bytes in the run's folder.
        cache: bytes that are added to the cache of texts.
    """

    name: str
    once: float = 0.0
    epoch: float = 0.0
    epochs: int = 0
    memory: int = 0
    between_steps: int = 0
    batch: int = 0
    row: int = 0
    micro_batch: MicroBatch | None = None
    run: int = 0
    cache: int = 0

    def rows(self, runtime: RuntimeConfig) -> int:
        """Return the rows of a forward pass."""
        return min(self.batch, (getattr(runtime, self.micro_batch) if self.micro_batch else None) or self.batch)

    def peak(self, runtime: RuntimeConfig) -> int:
        """Return the most bytes beside the process and the encoded texts."""
        return self.memory + max(self.between_steps, self.row * self.rows(runtime))

    @property
    def at_most(self) -> float:
        """Seconds with all epochs."""
        return self.once + self.epoch * self.epochs


def estimate_fit(name: str, task: TaskT, config: FitConfig, *, rows: int, cases: int, micro_batch: MicroBatch) -> Estimate:
    """Predict a fit: it validates and saves at first and after each epoch.

    Args:
        name: the fit's.
        task: its model is left with other weights' gradients unset, in evaluation mode.
        config: how it will be trained.
        rows: histories to try, at most.
        cases: validation cases to try, at most.
        micro_batch: the runtime setting that bounds the rows of a forward pass.
    """
    device = next(task.module.parameters()).device
    tried = copy(task)
    tried.histories = task.histories.take(some(len(task), rows))
    tried.valid = task.valid.take(some(len(task.valid), enough(cases, device)))
    row, activations = 0.0, 0
    if config.epochs and len(tried):
        with MemoryPeak(device) as memory:
            _try_step(tried)  # which also warms up
        gc.collect()
        activations, row = memory.grown // len(tried), seconds_of(partial(_try_step, tried)) / len(tried)
    case = seconds_of(tried.validate) / len(tried.valid)
    trained = sum(weight.nbytes for weight in task.module.parameters() if weight.requires_grad)
    weights = sum(tensor.nbytes for tensor in task.module.state_dict().values())
    # A checkpoint holds the weights as they are and at their best, and Adam's two moments.
    checkpoint = 2 * (weights + trained)
    once = len(task.valid) * case + checkpoint / DISK_SPEED
    return Estimate(
        name=name,
        once=once,
        epoch=len(task) * row + once,
        epochs=config.epochs,
        memory=3 * trained + weights,  # moments, gradients, and the best weights
        batch=config.batch_size,
        row=activations,
        micro_batch=micro_batch,
        run=checkpoint,
    )


def _try_step(task: CollaborativeTask | LaserTask) -> None:
    """Go forward and back with all rows of a task."""
    task.module.train()
    task.step(torch.arange(len(task)), 1).loss.backward()
    task.module.zero_grad(set_to_none=True)


def seconds_of(work: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    began = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - began


def enough(count: int, device: torch.device) -> int:
    """Return how many of something to try on a device, where `count` are enough for a CPU."""
    return count * ON_GPU if device.type == "cuda" else count


def some(count: int, wanted: int) -> NDArray[np.int64]:
    """Return the numbers of some of `count` rows, int64, always the same ones."""
    if wanted >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, wanted, replace=False))
