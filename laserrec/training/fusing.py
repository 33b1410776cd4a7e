"""The stage after training: which ensemble's score is fused, and what cold items get beside it.

Nothing that is read changes any more, so the language model reads each history a single time for all of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from laserrec.config import LaserConfig
from laserrec.data.dataset import Cases
from laserrec.laser.system import LaserSystem
from laserrec.layers.histories import padded
from laserrec.layers.neighbours import COUNT
from laserrec.sequential.base import SequentialRecommender
from laserrec.sequential.ensemble import Ensemble
from laserrec.training.calibration import CASES, calibrate
from laserrec.training.candidates import OTHERS
from laserrec.training.cold_start import FOLDS, fit_cold_start_bonus, rounds, score_fold
from laserrec.training.context import FitContext
from laserrec.training.ease import EXACT, LOOKED_UP, RECENT, TOP, ease_neighbours
from laserrec.training.estimates import Estimate, enough, seconds_of, some
from laserrec.training.laser_task import validation_score
from laserrec.training.neighbours import PAIRS_HELD, REACH, blend, count_neighbours
from laserrec.training.sequential_stage import refit_stages

EVENTS, TRIED, SOLVED = 20_000, 128, 1000
"""Of an estimate: events that are counted, cases that are scored, items that EASE is solved for."""
PAIR_BYTES = 80
"""Of a pair of items while pairs are added up, about."""


@dataclass(frozen=True)
class FuseStage:
    """Fuses the score of all refits, or of a kind of them, where that validates better; then fits what cold items get beside it."""

    name: str = "fusing"

    def run(self, context: FitContext) -> None:
        """Choose and fit; the collaborative view's scorer and the score's scalars may be replaced."""
        config, laser = context.config, context.system
        began, cases = time.monotonic(), context.cases(config.stage2)
        with laser.reading_once(), context.watched(self.name, len(_groups(config)) + 2) as progress:
            scorers = blended(context, _groups(config), cases)
            progress(1)
            if scorers:
                _take_best(laser, scorers, context.fits[_groups(config)[0][0]].seen, cases, config, progress)
            if config.score.calibrate and config.score.cold_start_bonus is None:
                fit_cold_start_bonus(laser, *_fitting_cases(laser, cases, config.seed), seed=config.seed)
            progress(len(_groups(config)) + 2)
        context.fusing = time.monotonic() - began

    def estimate(self, context: FitContext) -> Estimate:
        """Choose among the untrained refits on some cases, and score one fold of the items made new."""
        config, laser, groups = context.config, context.system, _groups(context.config)
        valid, count = context.cases(config.stage2), len(context.popularity)
        room = context.memory_for_trials // (64 * count)  # five scores of the whole catalogue and what gradients take
        few = valid.take(some(len(valid), max(1, min(enough(TRIED, context.device), room))))
        start = {name: value.clone() for name, value in laser.model.scorer.state_dict().items()}
        seconds, memory, kept, fitted = 0.0, 0, 0, config.score.calibrate and config.score.cold_start_bonus is None
        with laser.reading_once():
            if groups or fitted:
                reading = seconds_of(partial(validation_score, laser, few, config.stage2.metric)) / len(few)
                seconds += reading * (len(valid) if groups else min(len(valid), CASES))
            if groups:
                (counting, counted), (solving, solved) = _counting(context), _solving(context)
                tables = [config.collaborative.neighbours, config.collaborative.ease]
                # Of each case and candidate: the networks' score and the tables', their sum, and what gradients take.
                fitted_bytes = 4 * (2 * sum(tables) + 3) * min(len(valid), CASES) * min(count, OTHERS) if any(tables) else 0
                kept = 8 * COUNT * count * sum(tables)
                memory = kept + max(counted, solved, fitted_bytes)
                one = count_neighbours(context.histories.take(np.arange(1)), count)
                near, ease = (one if wanted else None for wanted in tables)  # a table of EASE takes as long to read

                def choose() -> None:
                    scorers = [blend([context.fits[name].model for name in group], near, ease, few, config.seed) for group in groups]
                    _take_best(laser, scorers, context.fits[groups[0][0]].seen, few, config, lambda _: None)

                seconds += counting + solving + seconds_of(choose) / len(few) * len(valid)
            if fitted:
                part = few.take(np.arange(min(len(few), CASES // FOLDS)))
                folds = rounds(count) * min(len(valid), CASES) / len(part)
                made_new = laser.collaborative.scored.nonzero()[::FOLDS, 0]
                seconds += folds * seconds_of(partial(score_fold, laser, *_fitting_cases(laser, part, config.seed), made_new))
        laser.model.scorer.load_state_dict(start)
        return Estimate(self.name, once=seconds, memory=memory, run=kept)


def blended(context: FitContext, groups: Sequence[Sequence[str]], cases: Cases) -> list[Ensemble]:
    """Make an ensemble of each group of trained refits, blended with neighbours where the settings say so.

    Args:
        context: its fits hold them.
        groups: names of fits.
        cases: of validation, on which the shares of neighbours and of EASE are fitted.
    """
    wanted, count = context.config.collaborative, len(context.data.item_ids)
    neighbours = count_neighbours(context.histories, count) if wanted.neighbours and groups else None
    ease = ease_neighbours(context.histories, count) if wanted.ease and groups else None
    return [blend([context.fits[name].model for name in group], neighbours, ease, cases, context.config.seed) for group in groups]


def _groups(config: LaserConfig) -> list[list[str]]:
    """Return the refits that may be fused together, by name: all of them, and each kind where there are several."""
    stages = refit_stages(config)
    kinds: dict[str, list[str]] = {}
    for stage in stages:
        kinds.setdefault(stage.model.items, []).append(stage.name)
    return [[stage.name for stage in stages], *(kinds.values() if len(kinds) > 1 else ())] if stages else []


def _fitting_cases(laser: LaserSystem, cases: Cases, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the histories, items and mask, and the targets that scalars are fitted on, on the system's device."""
    fitted = cases.sample(CASES, seed)
    return *padded(fitted.histories, laser.device), torch.from_numpy(fitted.targets).to(laser.device)


def _take_best(
    laser: LaserSystem,
    scorers: Sequence[Ensemble],
    scored: Tensor,
    cases: Cases,
    config: LaserConfig,
    progress: Callable[[int], None],
) -> None:
    """Fuse the scores that validate best: those at hand, or one of several ensembles' with the scalars fitted to it on validation."""
    view, scalars, metric = laser.collaborative, laser.model.scorer.scalars, config.stage2.metric
    starts = [scalar.detach().clone() for scalar in scalars]
    best = validation_score(laser, cases, metric), view.scorer, view.scored, starts
    for place, scorer in enumerate(scorers, start=2):
        _set_scores(laser, scorer, scored, starts)
        if config.score.calibrate:
            calibrate(laser, *_fitting_cases(laser, cases, config.seed), seed=config.seed)
        reached = validation_score(laser, cases, metric)
        if reached > best[0]:
            best = reached, scorer, scored, [scalar.detach().clone() for scalar in scalars]
        progress(place)
    _set_scores(laser, *best[1:])


@torch.no_grad()
def _set_scores(laser: LaserSystem, scorer: SequentialRecommender | Ensemble, scored: Tensor, values: Sequence[Tensor]) -> None:
    laser.score_with(scorer, scored)
    for scalar, value in zip(laser.model.scorer.scalars, values, strict=True):
        scalar.copy_(value)


def _solving(context: FitContext) -> tuple[float, int]:
    """Return the seconds of solving EASE, from a smaller system or some of the many, and the bytes that it takes."""
    if not context.config.collaborative.ease:
        return 0.0, 0
    count = len(context.popularity)
    if count <= EXACT:
        size = min(count, SOLVED)
        system = torch.eye(size, dtype=torch.float64)
        # Matrices of N² numbers: two in float32, two in float64 and what solving takes.
        return seconds_of(lambda: torch.cholesky_inverse(torch.linalg.cholesky(system))) * (count / size) ** 3, 32 * count**2
    systems = torch.eye(TOP, dtype=torch.float64).expand(LOOKED_UP // TOP**2, TOP, TOP)
    seconds = seconds_of(lambda: torch.linalg.solve(systems, systems[..., :1])) * count / len(systems)
    return 2 * seconds, 32 * LOOKED_UP + 40 * RECENT * len(context.histories.values)  # pairs are looked up as long as systems are solved


def _counting(context: FitContext) -> tuple[float, int]:
    """Return the seconds of counting neighbours, from those of some histories, and the bytes that counting takes."""
    if not context.config.collaborative.neighbours:
        return 0.0, 0
    histories, count = context.histories, len(context.popularity)
    events = len(histories.values)
    tried = histories.take(some(len(histories), -(-len(histories) * EVENTS // max(events, 1))))
    seconds = seconds_of(partial(count_neighbours, tried, count)) * events / max(len(tried.values), 1)
    # Parts end where an item ends, so all events of the one that has most may lie in one part, beside those that it is meant for.
    pairs = min(2 * REACH * events, PAIRS_HELD + 2 * REACH * int(context.popularity.max(initial=0)))
    return seconds, 2 * histories.values.nbytes + PAIR_BYTES * pairs
