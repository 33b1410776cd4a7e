"""What a run is predicted to take: the stages' own estimates, what comes beside them, and how both compare with what it took."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from laserrec.config import LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.errors import ConfigError
from laserrec.evaluation.lists import ListMeasures
from laserrec.evaluation.metrics import evaluate
from laserrec.evaluation.ranking import rows_at_once
from laserrec.layers.neighbours import found_at_once
from laserrec.llm.loading import located
from laserrec.system.cache import texts_folder
from laserrec.system.devices import CPU
from laserrec.system.resources import folder_bytes, free_bytes, peak_memory, resident_memory
from laserrec.system.units import duration, gib
from laserrec.text_cache.store import ZeroStore
from laserrec.training.context import FitContext
from laserrec.training.estimates import DISK_SPEED, Estimate, enough, seconds_of, some
from laserrec.training.pipeline import laser_stages

REST = "rest"
"""Everything that is no stage: loading, evaluation, saving."""
CASES = 64
"""Cases that are ranked to time Laser's evaluation."""
NO_ROOM = (
    "The encoded texts need {} in the cache folder, where {} are free. Make room by removing encoded texts, set LASERREC_CACHE to another "
    "disk, or make them smaller: llm.cache=int8, prompt.max_item_tokens, llm.layers."
)
RANK_BYTES = 64
"""Of a row of the ranks' table, about."""


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
        chosen: runtime settings that were unset and are now chosen, by name.
        phases: in the order in which they come.
        memory: see there.
        disk: see there.
        at_once: what is worked on at a time, and how many of it, so that what is held stays bounded whatever the catalogue's size.
        threads: that it was made, and the run is begun, with.
        seconds: that making the plan took.
    """

    config: LaserConfig
    chosen: Mapping[str, int]
    phases: Sequence[Estimate]
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
                "runtime.text_memory, a micro-batch or llm.layers, or use a smaller language model."
            )
        if memory.texts < memory.texts_all:
            found.append(
                f"Of {gib(memory.texts_all)} of encoded texts memory holds {gib(memory.texts)}; the rest is read from disk again "
                "and again, which is part of the predicted time. Raise runtime.text_memory if memory is free."
            )
        if disk.texts > disk.texts_free:
            found.append(NO_ROOM.format(gib(disk.texts), gib(disk.texts_free)))
        if disk.run > disk.run_free:
            found.append(f"The run needs {gib(disk.run)} in its folder, where {gib(disk.run_free)} are free.")
        return found

    def require_room(self) -> None:
        """Refuse to start when the disk cannot hold the encoded texts.

        Raises:
            ConfigError: it cannot.
        """
        if self.disk.texts > self.disk.texts_free:
            raise ConfigError(NO_ROOM.format(gib(self.disk.texts), gib(self.disk.texts_free)))

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the settings, for JSON."""
        return {
            "seconds_at_most": self.at_most,
            "phases": [{name: getattr(phase, name) for name in ("name", "once", "epoch", "epochs", "at_most")} for phase in self.phases],
            "memory": asdict(self.memory),
            "disk": asdict(self.disk),
            "chosen": dict(self.chosen),
            "at_once": dict(self.at_once),
            "warnings": self.warnings,
            "threads": self.threads,
            "seconds": self.seconds,
        }


def estimate_run(data: Dataset, config: LaserConfig, folder: Path, *, device: torch.device = CPU) -> Plan:
    """Predict what a run takes, and choose the micro-batches that the settings leave to the machine.

    The frozen language model is loaded and every stage tries one step, with weights that are thrown away. Nothing of it reaches the run:
    training seeds its own generators.

    Args:
        data: the dataset.
        config: the settings.
        folder: where the run's folder will be; nothing is written there.
        device: where the run will be computed.

    Raises:
        AssetError: the language model cannot be had.
        LaserrecError: whatever else would stop the run at its beginning: settings that do not fit the model, data without validation.
    """
    began, process = time.perf_counter(), 0
    texts_folder().mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        context = FitContext(data, located(config), device=device)
        available = context.available
        context.load()
        context.texts.reuse(texts_folder())
        _ = context.texts_missing
        context.texts.open(ZeroStore, writes=False)
        loading = time.perf_counter() - began
        stages: list[Estimate] = []
        for stage in laser_stages(config):
            if stage.name == "stage1":
                _, process = context.system, resident_memory(device)
            stages.append(stage.estimate(context))
        rest = loading + _evaluation_seconds(context)
        settled, chosen = _choose(config, stages, available)
        memory = _memory(context, settled, stages, process, available)
        disk = _disk(context, stages, folder)
    gc.collect()
    at_once = {f"rows of {stage.name}": stage.rows(settled.runtime) for stage in stages if stage.epochs}
    at_once["histories scored"] = rows_at_once(len(data.item_ids))
    if config.score.nearest:
        at_once["items given neighbours"] = min(len(data.item_ids), found_at_once(len(data.item_ids)))
    phases = [*stages, Estimate(REST, once=rest + disk.run / DISK_SPEED)]
    return Plan(settled, chosen, phases, memory, disk, at_once, torch.get_num_threads(), time.perf_counter() - began)


def micro_batch(batch: int, row: int, available: int) -> int | None:
    """Return how many rows a forward pass may have: the largest halving of the batch whose activations take a quarter of the memory.

    Args:
        batch: rows of an optimiser step.
        row: bytes of a row's activations.
        available: bytes of memory.

    Returns:
        None where the whole batch fits, so that results depend on the machine only where they must.
    """
    size = batch
    while size > 1 and size * row > available // 4:
        size //= 2
    return None if size == batch else size


def _choose(config: LaserConfig, stages: Sequence[Estimate], available: int) -> tuple[LaserConfig, dict[str, int]]:
    """Choose micro-batches that the settings leave open, where memory asks for them."""
    chosen: dict[str, int] = {}
    for stage in stages:
        if stage.micro_batch and getattr(config.runtime, stage.micro_batch) is None:
            size, name = micro_batch(stage.batch, stage.row, available), f"runtime.{stage.micro_batch}"
            if size is not None:
                chosen[name] = min(size, chosen.get(name, size))
    return config.override([f"{key}={value}" for key, value in chosen.items()]), chosen


def _evaluation_seconds(context: FitContext) -> float:
    """Return the seconds of ranking the validation and test cases."""
    valid, test = context.valid, context.data.cases("test")
    share = 1 if context.config.prompt.order == "text_first" else 8
    few = valid.take(some(len(valid), enough(CASES // share, context.device)))
    work = partial(evaluate, context.system.prepared().scores, few, measures=ListMeasures.of(context.data), device=context.device)
    return (len(valid) + len(test)) * seconds_of(work) / len(few)


def _memory(context: FitContext, config: LaserConfig, stages: Sequence[Estimate], process: int, available: int) -> Memory:
    texts, writing = context.texts, max((stage.memory for stage in stages if stage.cache), default=0)
    training = max(stage.peak(config.runtime) for stage in stages if not stage.cache)
    peak = max(process + max(texts.memory + training, writing), peak_memory(context.device))
    return Memory(peak, process, texts.memory, texts.unlimited_memory, training, available)


def _disk(context: FitContext, stages: Sequence[Estimate], folder: Path) -> Disk:
    data, config, cache = context.data, context.config, texts_folder()
    own = {stage.name for stage in laser_stages(config)} & context.fits.keys()
    parts = [context.system.model, *(context.fits[name].model for name in own)]
    model = sum(tensor.nbytes for part in parts for tensor in part.state_dict().values()) + int(data.items.estimated_size())
    ranks = RANK_BYTES * (len(data.cases("valid")) + len(data.cases("test")))
    vectors = 4 * len(data.item_ids) * context.backbone.width if context.vectors is not None else 0
    return Disk(
        texts=sum(stage.cache for stage in stages),
        texts_all=context.texts.bytes + vectors,
        texts_before=folder_bytes(cache),
        texts_free=free_bytes(cache),
        run=sum(stage.run for stage in stages) + model + ranks,
        run_free=free_bytes(folder),
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
        shown = gib if self.unit == "bytes" else duration
        off = f"{self.predicted / self.actual - 1:+.0%}" if self.predicted and self.actual else ""
        return shown(self.predicted), shown(self.actual), off


def compare(plan: Mapping[str, Any], measured: Mapping[str, Any]) -> list[Compared]:
    """Put predicted and actual figures side by side.

    Early stopping is not known beforehand, so a fit is compared with what was predicted for the epochs that it made.

    Args:
        plan: what `Plan.as_dict` gave.
        measured: `seconds`, `phases` (name to `seconds` and `epochs`), `peak_memory`, `texts_bytes` and `run_bytes`.
    """
    rows, left = [], measured["seconds"]
    for phase in plan["phases"]:
        unmeasured = {"seconds": max(left, 0.0) if phase["name"] == REST else 0.0, "epochs": 0}  # the rest is what no stage took
        found = measured["phases"].get(phase["name"], unmeasured)
        left -= found["seconds"]
        predicted = phase["once"] + phase["epoch"] * found["epochs"]
        rows.append(Compared(phase["name"], "s", predicted, found["seconds"], found["epochs"] if phase["epochs"] else None))
    return [
        *rows,
        Compared("time", "s", sum(row.predicted for row in rows), sum(row.actual for row in rows)),
        Compared("memory", "bytes", plan["memory"]["peak"], measured["peak_memory"]),
        Compared("disk, texts", "bytes", plan["disk"]["texts"], measured["texts_bytes"]),
        Compared("disk, run", "bytes", plan["disk"]["run"], measured["run_bytes"]),
    ]
