"""Training Laser from a dataset: the id-based recommender, stage 1, stage 2; each resumable, each skipped when it is already done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from laserrec.config import CollaborativeConfig, FitConfig, LaserConfig
from laserrec.data.dataset import Cases, Dataset
from laserrec.errors import DataError
from laserrec.nn.backbone import Backbone
from laserrec.nn.collaborative import CollaborativeView
from laserrec.nn.laser import LaserModel, LaserSystem
from laserrec.nn.sequential import SequentialRecommender
from laserrec.training.collaborative import CollaborativeTask, build_recommender
from laserrec.training.loop import FitResult, Observer, fit
from laserrec.training.stages import LaserTask, validation_score
from laserrec.training.texts import ItemTexts


@dataclass(frozen=True)
class Session:
    """What every fit of one run shares.

    Attributes:
        folder: the run's; each fit keeps its checkpoint in a folder of its own below.
        resume: continue where checkpoints are found.
        observers: who watches.
    """

    folder: Path
    resume: bool = False
    observers: Sequence[Observer] = ()


@dataclass(frozen=True)
class Collaborative:
    """A trained id-based recommender.

    Attributes:
        model: its best weights.
        seen: the items that it was trained on, bool [N].
        result: how the fit went.
    """

    model: SequentialRecommender
    seen: Tensor
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
    """
    torch.manual_seed(seed)
    model = build_recommender(model_config, len(data.item_ids))
    task = CollaborativeTask(model, data.training_histories(), validation_cases(data, config, seed), hold_out=hold_out)
    identity = {"data": data.fingerprint, "seed": seed, "hold_out": hold_out, **_dump(model=model_config, fit=config)}
    result = fit(
        task,
        config,
        name=name,
        seed=seed,
        folder=session.folder / name,
        identity=identity,
        resume=session.resume,
        observers=session.observers,
    )
    return Collaborative(model, task.seen(), result)


def build_laser(config: LaserConfig, backbone: Backbone, texts: ItemTexts, collaborative: CollaborativeView) -> LaserSystem:
    """Put an untrained system together; the run's seed draws its weights."""
    torch.manual_seed(config.seed)
    model = LaserModel(config, backbone, state_width=collaborative.model.width, catalogue_size=len(texts.items))
    return LaserSystem(model, texts.reader, collaborative, config.prompt.max_history, texts.item_reader)


def fit_laser(laser: LaserSystem, data: Dataset, config: LaserConfig, *, llm: str, session: Session) -> list[FitResult]:
    """Train both stages (paper §3.3.2).

    Args:
        laser: trained in place; left with the weights and the item matrix that validate best.
        data: histories to learn from and cases to validate on.
        config: the run's settings.
        llm: fingerprint of the frozen LLM.
        session: where and how the fits are kept.

    Returns:
        The outcome of stage 1 and of stage 2.
    """
    results = []
    for name, stage, refresh in (("stage1", config.stage1, True), ("stage2", config.stage2, False)):
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
        identity = {"data": data.fingerprint, "llm": llm, **_dump(config=config)}
        folder = session.folder / name
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


def refit_collaborative(laser: LaserSystem, data: Dataset, config: LaserConfig, *, session: Session) -> FitResult | None:
    """Fuse the scores of a recommender trained on the positions held out as well, and keep that where it validates better.

    Continuing from the weights at hand costs as much as starting afresh and ends slightly below it (docs/log.md).

    Args:
        laser: trained; the scorer of its collaborative view may be replaced.
        data: histories to learn from and cases to validate on.
        config: the run's settings.
        session: where and how the fit is kept.

    Returns:
        The outcome of the refit; None where nothing was held out, or nothing is fused.
    """
    if not (config.collaborative.refit and config.collaborative.hold_out and config.score.fuse_collaborative):
        return None
    view = laser.collaborative
    refit = fit_collaborative(
        data,
        config.collaborative,
        config.fit_collaborative,
        seed=config.seed,
        session=session,
        hold_out=0,
        # Named as a baseline's fit on the same data would be: in one folder the two are one.
        name=config.collaborative.model,
    )
    cases = validation_cases(data, config.stage2, config.seed)
    before, scorer, scored = validation_score(laser, cases, config.stage2.metric), view.scorer, view.scored
    view.score_with(refit.model, refit.seen)
    laser.place_new()
    if validation_score(laser, cases, config.stage2.metric) <= before:
        view.score_with(scorer, scored)
        laser.place_new()
    return refit.result


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
    if config.validation_cases is None or config.validation_cases >= len(cases):
        return cases
    return cases.take(np.sort(np.random.default_rng(seed).choice(len(cases), config.validation_cases, replace=False)))


def _dump(**sections: Any) -> dict[str, Any]:  # noqa: ANN401 - any settings
    return {name: section.model_dump(mode="json") for name, section in sections.items()}
