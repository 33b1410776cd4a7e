"""A small Laser fit for a process of its own, which the tests kill at any moment."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import tiny
import torch
from torch import Tensor

from laserrec.config import FitConfig
from laserrec.errors import InterruptedTraining
from laserrec.laser.system import LaserSystem
from laserrec.system import files as checkpoint
from laserrec.system.files import write_tensors
from laserrec.system.progress import Observer
from laserrec.training.loop import FitResult, fit

FINAL = "final.safetensors"
INTERRUPTED = 3
STEPS = 12


def laser() -> LaserSystem:
    """A system with noise in training, and items that the sequential recommender does not know."""
    return tiny.system(tiny.config(mformer={"drop_state": 0.4}), known=torch.arange(len(tiny.ITEMS)) < 10)


def train(
    folder: Path, *, resume: bool, seconds: float = 0.0, observer: Observer | None = None, refresh: bool = True
) -> tuple[LaserSystem, FitResult]:
    """Four epochs of three steps."""
    system = laser()
    config = FitConfig(epochs=4, patience=9, batch_size=3, learning_rate=0.02, warmup_steps=5)
    observers = [observer] if observer else []
    task = tiny.task(system, refresh=refresh)
    how = {"folder": folder, "identity": {"data": "x"}, "resume": resume, "observers": observers, "checkpoint_seconds": seconds}
    return system, fit(task, config, name="stage1", seed=4, **how)


def main(folder: Path, resume: bool, slow: bool) -> None:
    """Train to the end and write the final weights; every step takes a while, and so does each write, if asked."""
    torch.set_num_threads(1)
    if slow:
        _write_in_two_halves()
    try:
        system, _ = train(folder, resume=resume, observer=_Pause())
    except InterruptedTraining:
        raise SystemExit(INTERRUPTED) from None
    write_tensors(folder / FINAL, system.model.state_dict(), {})


class _Pause(Observer):
    """Leaves a mark at every step, then waits, so that a kill can fall anywhere."""

    def on_step(self, step: int, scalars: Mapping[str, float]) -> None:
        time.sleep(0.01)


def _write_in_two_halves() -> None:
    save = checkpoint.save_file

    def slowly(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        save(tensors, path, metadata=metadata)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        time.sleep(0.05)
        path.write_bytes(whole)

    checkpoint.save_file = slowly
