"""Training Laser from a dataset: the id-based recommender, stage 1, stage 2; each resumable, each skipped when it is already done."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from laserrec.config import CollaborativeConfig, FitConfig, LaserConfig
from laserrec.data.dataset import Cases, Dataset
from laserrec.errors import DataError
from laserrec.laser.system import LaserSystem
from laserrec.layers.histories import padded
from laserrec.sequential.base import SequentialRecommender
from laserrec.sequential.build import build_recommender
from laserrec.sequential.ensemble import Ensemble
from laserrec.sequential.item_table import whiten
from laserrec.training.calibration import CASES, calibrate
from laserrec.training.cold_start import fit_lift
from laserrec.training.laser_task import LaserTask, validation_score
from laserrec.training.loop import FitResult, fit
from laserrec.training.neighbours import blend, count_neighbours
from laserrec.training.sequential_task import CollaborativeTask
from laserrec.training.session import Session
from laserrec.training.text_vectors import TextVectors

REFIT_SEEDS = 1000
"""From one refit's seed to the next one's; runs with seeds near each other share none."""


@dataclass(frozen=True)
class Collaborative:
    """A trained id-based recommender.

    Attributes:
        model: its best weights.
        seen: the items that it was trained on, bool [N].
        parameters: trained ones.
        result: how the fit went.
    """

    model: SequentialRecommender
    seen: Tensor
    parameters: int
    result: FitResult


def fit_collaborative(
    data: Dataset,
    model_config: CollaborativeConfig,
    config: FitConfig,
    *,
    seed: int,
    session: Session,
    hold_out: int,
    name: str,
    texts: TextVectors | None = None,
) -> Collaborative:
    """Train an id-based recommender.

    Args:
        data: histories to learn from and cases to validate on.
        model_config: its architecture.
        config: how to train.
        seed: of weights, order and dropout.
        session: where and how the fit is kept.
        hold_out: training events at each history's end that it must not learn from.
        name: what logs and the folder call it.
        texts: vectors of the items' texts, where `model_config.reads_texts`.

    Returns:
        The model, its item vectors and features fixed to plain embeddings whatever they were made from.
    """
    torch.manual_seed(seed)
    read = texts if model_config.reads_texts else None
    # Weights are drawn on the CPU, so that they are the same wherever the training goes on.
    model = build_recommender(model_config, len(data.item_ids), None if read is None else whiten(read.values)).to(session.device)
    task = CollaborativeTask(model, data.training_histories(), validation_cases(data, config, seed), hold_out=hold_out)
    identity = fit_identity(data, model_config, config, seed=seed, hold_out=hold_out)
    if read is not None:
        identity["texts"] = dict(read.source)
    result = fit(
        task,
        config,
        name=name,
        seed=seed,
        folder=session.place(name),
        identity=identity,
        resume=session.resume,
        observers=session.observers,
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    model.fix_items()
    return Collaborative(model, task.seen(), parameters, result)


def fit_identity(data: Dataset, model_config: CollaborativeConfig, config: FitConfig, *, seed: int, hold_out: int) -> dict[str, Any]:
    """Return what an id-based fit depends on beside the texts that it may read; arguments as in `fit_collaborative`."""
    about = {"data": data.fingerprint, "items": data.catalogue_digest, "seed": seed, "hold_out": hold_out}
    return {**about, "model": model_config.architecture, **_dump(fit=config)}


def fit_laser(laser: LaserSystem, data: Dataset, config: LaserConfig, *, known: Mapping[str, str], session: Session) -> list[FitResult]:
    """Train both stages (paper §3.3.2); the second one is left out where it has no epochs, for it leaves everything as it is.

    Args:
        laser: trained in place; left with the weights and the item matrix that validate best.
        data: histories to learn from and cases to validate on.
        config: the run's settings.
        known: fingerprints of what training stands on, by which a stopped run knows it again: the frozen LLM's, that of the weights it
            starts from.
        session: where and how the fits are kept.

    Returns:
        The outcome of each.
    """
    results = []
    for name, stage, refresh in (("stage1", config.stage1, True), ("stage2", config.stage2, False)):
        if not (stage.epochs or refresh):  # stage 1 makes the item matrix even if it trains nothing
            continue
        task = LaserTask(
            laser,
            data.training_histories(),
            validation_cases(data, stage, config.seed),
            balance=config.score.balance,
            positions=config.collaborative.hold_out,
            refresh=refresh,
            seed=config.seed,
            calibrated=config.score.calibrate and refresh,
        )
        identity = {"data": data.fingerprint, "items": data.catalogue_digest, **known, **_dump(config=config)}
        folder = session.place(name)
        results.append(
            fit(
                task,
                stage,
                name=name,
                seed=config.seed,
                folder=folder,
                identity=identity,
                resume=session.resume,
                observers=session.observers,
            )
        )
    return results


def fit_refits(data: Dataset, config: LaserConfig, *, session: Session, texts: TextVectors | None = None) -> list[Collaborative]:
    """Train the recommenders whose mean score Laser fuses in the end, on all positions; arguments as in `fit_collaborative`.

    Continuing from the weights at hand costs as much as starting afresh and ends slightly below it (docs/log.md).
    """
    return [
        fit_collaborative(data, settings, config.fit_collaborative, seed=seed, session=session, hold_out=0, name=name, texts=texts)
        for name, (settings, seed) in refit_settings(config).items()
    ]


def refit_collaborative(
    laser: LaserSystem, data: Dataset, config: LaserConfig, *, session: Session, texts: TextVectors | None = None
) -> tuple[list[Collaborative], float]:
    """Train the refits, and fuse the scores of all of them, or of one kind, where that validates better; return the seconds of fusing, too.

    Args:
        laser: trained; the scorer of its collaborative view, and the score's scalars, may be replaced.
        data: histories to learn from and cases to validate on.
        config: the run's settings.
        session: where and how the fits are kept.
        texts: as in `fit_collaborative`.

    Returns:
        The refits, none where nothing was held out or nothing is fused; and the seconds that blending, fitting scalars and validating took.
    """
    refits = fit_refits(data, config, session=session, texts=texts)
    began = time.monotonic()
    with laser.reading_once():
        _fuse(laser, data, config, refits)
    return refits, time.monotonic() - began


def _fuse(laser: LaserSystem, data: Dataset, config: LaserConfig, refits: Sequence[Collaborative]) -> None:
    """Choose what is fused, and fit what new items get beside it; arguments as in `refit_collaborative`."""
    cases = validation_cases(data, config.stage2, config.seed)
    if refits:
        kinds: dict[str, list[SequentialRecommender]] = {}
        for refit, kind in zip(refits, config.collaborative.refits, strict=True):
            kinds.setdefault(kind, []).append(refit.model)
        groups = [[refit.model for refit in refits], *(kinds.values() if len(kinds) > 1 else ())]
        _take_best(laser, blend_refits(groups, data, config), refits[0].seen, cases, config)
    if config.score.calibrate and config.score.new_items is None:
        fit_lift(laser, *_fitting_cases(laser, cases, config.seed), seed=config.seed)


def _fitting_cases(laser: LaserSystem, cases: Cases, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the histories, items and mask, and the targets that scalars are fitted on, on the system's device."""
    fitted = cases.sample(CASES, seed)
    return *padded(fitted.histories, laser.device), torch.from_numpy(fitted.targets).to(laser.device)


def blend_refits(groups: Sequence[Sequence[SequentialRecommender]], data: Dataset, config: LaserConfig) -> list[Ensemble]:
    """Make an ensemble of each group of refits, blended with neighbours where the settings say so."""
    cases, wanted = validation_cases(data, config.stage2, config.seed), config.collaborative.neighbours
    neighbours = count_neighbours(data.training_histories(), len(data.item_ids)) if wanted else None
    return [blend(group, neighbours, cases, config.seed) for group in groups]


def refit_settings(config: LaserConfig) -> dict[str, tuple[CollaborativeConfig, int]]:
    """Return how the refits are built and seeded, by name; the first of its kind is what a baseline on the same data is."""
    if not (config.collaborative.hold_out and config.score.fuse_collaborative):
        return {}
    found: dict[str, tuple[CollaborativeConfig, int]] = {}
    for items in config.collaborative.refits:
        experts = 1 if items == "id" else config.collaborative.text_experts
        settings = config.collaborative.model_copy(update={"items": items, "text_experts": experts})
        alike = sum(other.items == items for other, _ in found.values())
        found[f"{settings.name}-{alike + 1}" if alike else settings.name] = settings, config.seed + REFIT_SEEDS * alike
    return found


def reads_texts(config: LaserConfig) -> bool:
    """Tell whether an id-based recommender of the run reads texts."""
    return any(settings.reads_texts for settings in (config.collaborative, *(refit for refit, _ in refit_settings(config).values())))


def _take_best(laser: LaserSystem, scorers: Sequence[Ensemble], scored: Tensor, cases: Cases, config: LaserConfig) -> None:
    """Fuse the scores that validate best: those at hand, or one of several ensembles' with the scalars fitted to it on validation."""
    view, scalars, metric = laser.collaborative, laser.model.scorer.scalars, config.stage2.metric
    starts = [scalar.detach().clone() for scalar in scalars]
    with laser.reading_once():
        best = validation_score(laser, cases, metric), view.scorer, view.scored, starts
        for scorer in scorers:
            _set_scores(laser, scorer, scored, starts)
            if config.score.calibrate:
                calibrate(laser, *_fitting_cases(laser, cases, config.seed), seed=config.seed)
            reached = validation_score(laser, cases, metric)
            if reached > best[0]:
                best = reached, scorer, scored, [scalar.detach().clone() for scalar in scalars]
    _set_scores(laser, *best[1:])


@torch.no_grad()
def _set_scores(laser: LaserSystem, scorer: SequentialRecommender | Ensemble, scored: Tensor, values: Sequence[Tensor]) -> None:
    laser.score_with(scorer, scored)
    for scalar, value in zip(laser.model.scorer.scalars, values, strict=True):
        scalar.copy_(value)


def costs_of(collaborative: Sequence[Collaborative], stages: Sequence[FitResult], fusing: float, system: LaserSystem) -> dict[str, Any]:
    """Return the seconds and trained parameters of the id-based recommenders and of Laser, whose seconds hold those of fusing."""
    return {
        "collaborative": {
            "seconds": sum(fitted.result.seconds for fitted in collaborative),
            "parameters": sum(fitted.parameters for fitted in collaborative),
        },
        "laser": {
            "seconds": sum(stage.seconds for stage in stages) + fusing,
            "parameters": sum(p.numel() for p in system.model.parameters() if p.requires_grad),
        },
    }


def validation_cases(data: Dataset, config: FitConfig, seed: int) -> Cases:
    """Return the cases a fit validates on: all of them, or a sample drawn from the seed.

    Raises:
        DataError: the dataset has none.
    """
    cases = data.cases("valid")
    if not len(cases):
        raise DataError(
            "The dataset has no validation case: no user has an event before a validation event. Prepare it with another split."
        )
    return cases if config.validation_cases is None else cases.sample(config.validation_cases, seed)


def _dump(**sections: Any) -> dict[str, Any]:  # noqa: ANN401 - any settings
    return {name: section.model_dump(mode="json") for name, section in sections.items()}
