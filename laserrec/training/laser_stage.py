"""The two stages that train Laser (paper §3.3.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch

from laserrec.config import FitConfig, LaserConfig
from laserrec.evaluation.ranking import rows_at_once
from laserrec.laser.system import LaserSystem
from laserrec.layers.histories import padded
from laserrec.layers.neighbours import COUNT, HELD, found_at_once, nearest
from laserrec.training.calibration import CASES as CALIBRATED
from laserrec.training.calibration import calibrate, terms_bytes
from laserrec.training.context import FitContext
from laserrec.training.estimates import Estimate, enough, estimate_fit, seconds_of, some
from laserrec.training.laser_task import LaserTask

ROWS, CASES, ITEMS = 64, 64, 128
"""Of an estimate in text_first; prefix_first reads whole prompts, so an eighth of them tells as much."""
CACHED_SPEED, DISK_SPEED = 1.5e9, 300e6
"""Bytes a second at which encoded texts are read out of the system's cache, and from a disk (docs/performance.md)."""


@dataclass(frozen=True)
class LaserStage:
    """Trains Laser; the weights, and the item matrix, that validate best are left in the context's system.

    Attributes:
        name: `stage1` recomputes the item matrix before each epoch, even if it trains nothing; `stage2` leaves it as it is.
    """

    name: Literal["stage1", "stage2"]

    def run(self, context: FitContext) -> None:
        """Train it, or read it from its checkpoint."""
        config = context.config
        known = {"llm": context.backbone.fingerprint()} | ({} if context.start is None else {"start": context.start.digest})
        context.stages[self.name] = context.fit(
            self._task(context),
            self._learning(config),
            name=self.name,
            seed=config.seed,
            identity={**known, "config": config.identity},
            micro_batch=config.runtime.laser_micro_batch,
        )

    def estimate(self, context: FitContext) -> Estimate:
        """Try one step; the system, with a random item matrix, is left in the context."""
        config, texts, system = context.config, context.texts, context.system
        learning, count, share = self._learning(config), len(texts.items), 1 if config.prompt.order == "text_first" else 8
        if self.name == "stage1":
            system.model.item_states.normal_()
        task = self._task(context)
        room = max(1, context.memory_for_trials // (1 + config.prompt.max_history * texts.unlimited_memory // max(count, 1)))
        found = estimate_fit(
            self.name,
            task,
            learning,
            rows=min(learning.batch_size, ROWS // share, room),
            cases=min(CASES // share, room),
            micro_batch="laser_micro_batch",
        )
        read_items, read_row = reading_again(context, learning)
        again = (len(task) + len(task.valid)) * read_row
        once, epoch = found.once + len(task.valid) * read_row, found.epoch + again
        if self.name == "stage1":
            refresh = read_items + _refresh_seconds(system, min(enough(ITEMS, context.device) // share, 8 * room))
            if task.calibrated and len(task):
                once += _calibration_seconds(system, task, min(enough(CASES, context.device) // share, room))
            # Texts that memory has room for are read for the first time by an item matrix. One is computed even if nothing is trained.
            once += texts.held_bytes / CACHED_SPEED + (0.0 if learning.epochs else refresh)
            epoch += refresh
        weights = sum(tensor.nbytes for tensor in system.model.state_dict().values())
        # The best weights are there twice while better ones are found.
        between = max(_scores_bytes(context), _finding_bytes(count, context.backbone.width) if config.score.nearest else 0, weights)
        return replace(found, once=once, epoch=epoch, between_steps=between)

    def _learning(self, config: LaserConfig) -> FitConfig:
        return config.stage1 if self.name == "stage1" else config.stage2

    def _task(self, context: FitContext) -> LaserTask:
        config, refresh = context.config, self.name == "stage1"
        return LaserTask(
            context.system,
            context.histories,
            context.cases(self._learning(config)),
            balance=config.score.balance,
            positions=config.collaborative.hold_out,
            refresh=refresh,
            seed=config.seed,
            calibrated=config.score.calibrate and refresh,
        )


def _refresh_seconds(system: LaserSystem, items: int) -> float:
    """Return the seconds of an item matrix and its neighbours by text, from those of some items."""
    states = system.model.item_states
    tried = torch.from_numpy(some(len(states), items)).to(states.device)
    seconds = seconds_of(partial(system.embed_items, tried)) / len(tried)
    if system.model.neighbours is not None:
        rows = tried[: found_at_once(len(states))]
        seconds += seconds_of(partial(nearest, states, rows)) / len(rows)
    return seconds * len(states)


def _calibration_seconds(system: LaserSystem, task: LaserTask, cases: int) -> float:
    """Return the seconds of fitting the score's scalars on training targets, from those of some; they are left as they were."""
    tried = task.valid.take(some(len(task.valid), cases))
    start = {name: value.clone() for name, value in system.model.scorer.state_dict().items()}
    histories, targets = padded(tried.histories, system.device), torch.from_numpy(tried.targets).to(system.device)
    seconds = seconds_of(partial(calibrate, system, *histories, targets))
    system.model.scorer.load_state_dict(start)
    return seconds / len(tried) * min(len(task), CALIBRATED)


def reading_again(context: FitContext, learning: FitConfig) -> tuple[float, float]:
    """Return the seconds of reading texts that memory does not hold: for an item matrix, and for a history of an epoch.

    Of what histories ask for, in an order that is drawn anew, the share is missing that memory has no room for; of items that are read in
    order about twice that share (docs/performance.md). What the system's own cache has no room for comes from the disk.
    """
    texts, histories = context.texts, context.histories.before_last(context.config.prompt.max_history)
    if texts.memory >= texts.unlimited_memory or not len(histories):
        return 0.0, 0.0
    every = torch.arange(len(texts.items))[:, None]
    lengths = texts.caches[0].count_tokens(every, torch.ones_like(every, dtype=torch.bool)).numpy()
    order = np.random.default_rng(0).permutation(len(histories))
    parts = (order[start : start + learning.batch_size] for start in range(0, len(order), learning.batch_size))
    # Histories that are read together share their texts.
    asked = sum(int(lengths[np.unique(histories.take(part).values)].sum()) for part in parts) / int(lengths.sum())
    held = texts.memory / texts.unlimited_memory
    cached = min(1.0, held + max(0, context.available - texts.memory) / texts.bytes)
    history = texts.caches[0].bytes * asked * ((1 - held) / CACHED_SPEED + (1 - cached) / DISK_SPEED) / len(histories)
    missed, uncached = min(1.0, 2 * (1 - held)), min(1.0, 2 * (1 - cached))
    return texts.caches[-1].bytes * (missed / CACHED_SPEED + uncached / DISK_SPEED), history


def _scores_bytes(context: FitContext) -> int:
    """Return the bytes of scores that are held at a time: in evaluation, or while scalars are fitted."""
    count, longest = len(context.data.item_ids), int(context.histories.lengths.max(initial=1))
    return max(terms_bytes(count, longest) if context.config.score.calibrate else 0, 16 * rows_at_once(count) * count)


def _finding_bytes(count: int, width: int) -> int:
    """Return the bytes that finding every item's neighbours by text takes: the most while directions are made, or after."""
    states, cosines = 4 * count * width, 4 * min(HELD, count * count)
    # The table that there is, the parts of the next one, and that one.
    return max(3 * states, states + cosines + 3 * 8 * COUNT * count)
