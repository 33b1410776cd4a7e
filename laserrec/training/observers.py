"""Observers: a progress bar with rate and time left, a log of epochs, TensorBoard, a clock.

The log of epochs is derived from the checkpoint's history: a resumed fit leaves the same lines as an uninterrupted one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from laserrec.errors import CheckpointError, MissingExtraError
from laserrec.system.atomic import aside
from laserrec.system.progress import Observer


def bar_on_terminal() -> list[ProgressBar]:
    """Return a progress bar on stderr where that is a terminal, else nobody."""
    return [ProgressBar(Console(stderr=True))] if sys.stderr.isatty() else []


LINE_SECONDS = 60.0
"""Seconds between two lines about one fit, so that hundreds of short epochs do not fill a log; its last epoch always has one."""


class ProgressBar(Observer):
    """A Rich progress bar over optimiser steps, and a line about the latest epoch once a minute and when a fit ends."""

    def __init__(self, console: Console) -> None:
        """Draw on a console."""
        self.console = console
        self.bar: Progress | None = None
        self.task = TaskID(0)
        self.name = ""
        self.record: Mapping[str, Any] | None = None
        self.printed = 0.0

    def begin(self, name: str, steps: int, done: int, history: Sequence[Mapping[str, Any]] = ()) -> None:
        """Show the bar."""
        self.name, self.record, self.printed = name, None, time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
        )
        self.bar = Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)
        self.task = self.bar.add_task(name, total=steps, completed=done, rate="", loss="")
        self.bar.start()

    def on_step(self, step: int, scalars: Mapping[str, float]) -> None:
        """Advance the bar."""
        if self.bar is not None:
            speed = self.bar.tasks[0].speed
            rate = f"{speed:.1f}/s" if speed else ""
            self.bar.update(self.task, completed=step, rate=rate, loss=f"loss {scalars['loss']:.3f}" if "loss" in scalars else "")

    def on_epoch(self, record: Mapping[str, Any]) -> None:
        """Note the epoch's validation, by the metric that decides; print it if the last line was a minute ago."""
        self.record = record
        if time.monotonic() - self.printed >= LINE_SECONDS:
            self._print()

    def log(self, text: str) -> None:
        """Print a sentence."""
        self.console.print(text, highlight=False, markup=False)

    def end(self) -> None:
        """Take the bar away, and print the latest epoch."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
        self._print()

    def _print(self) -> None:
        if self.record is not None:
            record, self.record, self.printed = self.record, None, time.monotonic()
            loss = f"loss {record['train']['loss']:.3f}  " if "loss" in record["train"] else ""
            shown = f"{record['metric']} {record['valid'][record['metric']]:.4f}"
            self.console.print(f"{self.name}  epoch {record['epoch']:>3}  {loss}{shown}  {record['seconds']:.0f} s", highlight=False)


class EpochLog(Observer):
    """One JSON line an epoch in `<folder>/<fit>/metrics.jsonl`."""

    def __init__(self, folder: Path) -> None:
        """Write below `folder`."""
        self.folder = folder
        self.path = folder
        self.records: list[Mapping[str, Any]] = []

    def begin(self, name: str, steps: int, done: int, history: Sequence[Mapping[str, Any]] = ()) -> None:
        """Write the file anew from the epochs so far."""
        self.path, self.records = self.folder / name / "metrics.jsonl", list(history)
        if self.records:
            self._write()
        else:
            self.path.unlink(missing_ok=True)

    def on_epoch(self, record: Mapping[str, Any]) -> None:
        """Add the epoch."""
        self.records.append(record)
        self._write()

    def _write(self) -> None:
        try:
            with aside(self.path) as partial:
                partial.write_text("".join(json.dumps(record) + "\n" for record in self.records), encoding="utf-8")
        except OSError as error:
            raise CheckpointError(f"Cannot write {self.path}: {error}. Make room on the disk and resume.") from error


class TensorBoardLog(Observer):
    """TensorBoard scalars of every step and epoch in `<folder>/<fit>`."""

    def __init__(self, folder: Path) -> None:
        """Write below `folder`.

        Raises:
            MissingExtraError: tensorboard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("tensorboard", "track", "Writing TensorBoard scalars") from error
        self.folder, self.open = folder, SummaryWriter
        self.writer: SummaryWriter | None = None
        self.place, self.done = str(folder), 0

    def begin(self, name: str, steps: int, done: int, history: Sequence[Mapping[str, Any]] = ()) -> None:
        """Note where to log; what a killed run wrote beyond its last checkpoint is hidden."""
        self.place, self.done = str(self.folder / name), done

    def on_step(self, step: int, scalars: Mapping[str, float]) -> None:
        """Write the step's scalars."""
        self._write("train", scalars, step)

    def on_epoch(self, record: Mapping[str, Any]) -> None:
        """Write the epoch's metrics."""
        self._write("valid", record["valid"], record["step"])

    def end(self) -> None:
        """Close the log."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None

    def _write(self, group: str, scalars: Mapping[str, float], step: int) -> None:
        if scalars and self.writer is None:
            self.writer = self.open(self.place, purge_step=self.done + 1)
        if self.writer is not None:
            for key, value in scalars.items():
                self.writer.add_scalar(f"{group}/{key}", value, step)


class PhaseClock(Observer):
    """Notes what each part of a run took.

    Attributes:
        phases: by name, `seconds` over all resumptions and `epochs` made.
    """

    def __init__(self, phases: Mapping[str, Mapping[str, float]]) -> None:
        """Go on from what was noted before the run was interrupted."""
        self.phases = {name: dict(phase) for name, phase in phases.items()}
        self._name, self._began, self._counted = "", 0.0, False

    def begin(self, name: str, steps: int, done: int, history: Sequence[Mapping[str, Any]] = ()) -> None:
        """Start the clock."""
        self._name, self._began, self._counted = name.partition(",")[0], time.monotonic(), False
        self.phases.setdefault(self._name, {"seconds": 0.0, "epochs": 0})
        for record in history[-1:]:
            self.on_epoch(record)

    def on_epoch(self, record: Mapping[str, Any]) -> None:
        """Take the epoch's own clock, which counts earlier processes too, also killed ones."""
        self.phases[self._name], self._counted = {"seconds": record["seconds"], "epochs": record["epoch"]}, True

    def end(self) -> None:
        """Add the time of what has no epochs."""
        if not self._counted:
            self.phases[self._name]["seconds"] += time.monotonic() - self._began
