"""What a run is predicted to take, and how that compares with what it took."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from laserrec.config import LaserConfig
from laserrec.errors import ConfigError
from laserrec.system.units import duration, gib

REST = "rest"
"""Everything that is no fit and no encoding: loading, counting and blending neighbours, evaluation, saving."""


@dataclass(frozen=True)
class Phase:
    """A part of a run.

    Attributes:
        name: what logs call it.
        once: seconds whatever the number of epochs.
        epoch: seconds an epoch.
        epochs: at most so many; how many it will be is not known beforehand.
    """

    name: str
    once: float
    epoch: float = 0.0
    epochs: int = 0

    def after(self, epochs: int) -> float:
        """Return the seconds that it takes with so many epochs."""
        return self.once + self.epoch * epochs

    @property
    def at_most(self) -> float:
        """Seconds with all epochs."""
        return self.after(self.epochs)


@dataclass(frozen=True)
class Memory:
    """Memory of the device that the run is computed on, in bytes.

    Attributes:
        peak: the most that the process will have at a time.
        process: what it has with the language model loaded.
        texts: encoded texts held.
        texts_all: what all of them would take; more than `texts` where they are limited.
        training: activations, moments and scores beside them.
        available: what this process may have on this machine now.
    """

    peak: int
    process: int
    texts: int
    texts_all: int
    training: int
    available: int


@dataclass(frozen=True)
class Disk:
    """Room on disk, in bytes.

    Attributes:
        texts: encoded texts to be written into the cache folder.
        texts_all: those, and the ones that are there already.
        texts_before: what the cache folder holds of encoded texts now, this run's or not.
        texts_free: free where the cache folder is.
        run: checkpoints, model and ranks in the run's folder.
        run_free: free where the run's folder will be.
    """

    texts: int
    texts_all: int
    texts_before: int
    texts_free: int
    run: int
    run_free: int


@dataclass(frozen=True)
class Plan:
    """A run's prediction.

    Attributes:
        config: the settings, with what was chosen for this machine.
        chosen: settings that were unset and are now chosen, by name.
        phases: in the order in which they come.
        memory: see there.
        disk: see there.
        at_once: what is worked on at a time, and how many of it, so that what is held stays bounded whatever the catalogue's size.
        threads: that it was made, and the run is begun, with.
        seconds: that making the plan took.
    """

    config: LaserConfig
    chosen: Mapping[str, int]
    phases: Sequence[Phase]
    memory: Memory
    disk: Disk
    at_once: Mapping[str, int]
    threads: int
    seconds: float

    @property
    def at_most(self) -> float:
        """Seconds with all epochs of all fits."""
        return sum(phase.at_most for phase in self.phases)

    @property
    def warnings(self) -> list[str]:
        """What may go wrong, a sentence each."""
        memory, disk, found = self.memory, self.disk, []
        if memory.peak > memory.available:
            found.append(
                f"Memory looks short: {gib(memory.peak)} are predicted, and {gib(memory.available)} can be had. Lower "
                "llm.cache_memory, a micro_batch_size or llm.layers, or take a smaller language model."
            )
        if memory.texts < memory.texts_all:
            found.append(
                f"Of {gib(memory.texts_all)} of encoded texts memory holds {gib(memory.texts)}; the rest is read from disk again "
                "and again, which is part of the predicted time. Raise llm.cache_memory if memory is free."
            )
        if disk.texts > disk.texts_free:
            found.append(self._no_room())
        if disk.run > disk.run_free:
            found.append(f"The run needs {gib(disk.run)} in its folder, where {gib(disk.run_free)} are free.")
        return found

    def require_room(self) -> None:
        """Refuse to start when the disk cannot hold the encoded texts.

        Raises:
            ConfigError: it cannot.
        """
        if self.disk.texts > self.disk.texts_free:
            raise ConfigError(self._no_room())

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the settings, for JSON."""
        return {
            "seconds_at_most": self.at_most,
            "phases": [asdict(phase) | {"at_most": phase.at_most} for phase in self.phases],
            "memory": asdict(self.memory),
            "disk": asdict(self.disk),
            "chosen": dict(self.chosen),
            "at_once": dict(self.at_once),
            "warnings": self.warnings,
            "threads": self.threads,
            "seconds": self.seconds,
        }

    def _no_room(self) -> str:
        return (
            f"The encoded texts need {gib(self.disk.texts)} in the cache folder, where {gib(self.disk.texts_free)} are free. Make room "
            "(laserrec assets clean), set LASERREC_CACHE to another disk, or make them smaller: llm.cache=int8, prompt.max_item_tokens, "
            "llm.layers."
        )


@dataclass(frozen=True)
class Compared:
    """A figure that was predicted, and what it came to.

    Attributes:
        what: its name.
        unit: "s" or "bytes".
        predicted: with the epochs that were made.
        actual: as measured.
        epochs: those that were made, of a fit.
    """

    what: str
    unit: str
    predicted: float
    actual: float
    epochs: int | None = None

    @property
    def texts(self) -> tuple[str, str, str]:
        """What was predicted, what it came to and how far off that was, in words; the last is empty where either is nothing."""
        shown, told = gib if self.unit == "bytes" else duration, self.predicted and self.actual
        return shown(self.predicted), shown(self.actual), f"{self.predicted / self.actual - 1:+.0%}" if told else ""


class PhaseClock:
    """Watches the fits of a run and notes what each took.

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

    def on_step(self, step: int, scalars: Mapping[str, float]) -> None:
        """Steps are not noted."""

    def on_epoch(self, record: Mapping[str, Any]) -> None:
        """Take the epoch's own clock, which counts earlier processes too, also killed ones."""
        self.phases[self._name], self._counted = {"seconds": record["seconds"], "epochs": record["epoch"]}, True

    def end(self) -> None:
        """Add the time of what has no epochs."""
        if not self._counted:
            self.phases[self._name]["seconds"] += time.monotonic() - self._began


def compare(plan: Mapping[str, Any], measured: Mapping[str, Any]) -> list[Compared]:
    """Put predicted and actual figures side by side.

    Early stopping is not known beforehand, so a fit is compared with what was predicted for the epochs that it made.

    Args:
        plan: what `Plan.as_dict` gave.
        measured: `seconds`, `phases` (name to `seconds` and `epochs`), `peak_memory`, `texts_bytes` and `run_bytes`.
    """
    rows, left = [], measured["seconds"]
    for phase in (Phase(**{key: phase[key] for key in ("name", "once", "epoch", "epochs")}) for phase in plan["phases"]):
        if phase.name == REST:
            rows.append(Compared(REST, "s", phase.once, max(left, 0.0)))
            continue
        found = measured["phases"].get(phase.name, {"seconds": 0.0, "epochs": 0})
        left -= found["seconds"]
        rows.append(Compared(phase.name, "s", phase.after(found["epochs"]), found["seconds"], found["epochs"] if phase.epochs else None))
    rows.append(Compared("time", "s", sum(row.predicted for row in rows), sum(row.actual for row in rows)))
    rows.append(Compared("memory", "bytes", plan["memory"]["peak"], measured["peak_memory"]))
    rows.append(Compared("disk, texts", "bytes", plan["disk"]["texts"], measured["texts_bytes"]))
    rows.append(Compared("disk, run", "bytes", plan["disk"]["run"], measured["run_bytes"]))
    return rows
