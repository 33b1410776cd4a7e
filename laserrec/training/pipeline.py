"""The order of a run, told once: a run is a list of stages over one context.

Fitting, its estimate, tuning and baselines iterate over these lists or pick from them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from laserrec.config import LaserConfig
from laserrec.sequential.build import build_recommender
from laserrec.training.context import COLLABORATIVE, FitContext, SequentialFit, Stage
from laserrec.training.estimates import Estimate
from laserrec.training.fusing import FuseStage
from laserrec.training.laser_stage import LaserStage
from laserrec.training.sequential_stage import SequentialStage, collaborative_stage, refit_stages
from laserrec.training.text_stages import EncodeStage, VectorsStage


def trained_stages(config: LaserConfig) -> list[Stage]:
    """Return what trains Laser itself: the recommender that it reads histories with, the texts, stage 1 and stage 2."""
    first = collaborative_stage(config)
    # Stage 2 without epochs would leave everything as it is.
    second = [LaserStage("stage2")] if config.stage2.epochs else []
    return [*vectors_for([first, *refit_stages(config)]), first, EncodeStage(), LaserStage("stage1"), *second]


def laser_stages(config: LaserConfig) -> list[Stage]:
    """Return a whole run: what trains Laser, the refits, and what chooses among them."""
    return [*trained_stages(config), *refit_stages(config), FuseStage()]


def transfer_stages() -> list[Stage]:
    """Return what carries the context's start over to another catalogue."""
    return [EncodeStage(), CarryStage()]


def vectors_for(fits: Iterable[SequentialStage]) -> list[Stage]:
    """Return the stage that makes text vectors if one of the fits reads them, else none."""
    return [VectorsStage()] if any(stage.model.reads_texts for stage in fits) else []


def run_stages(stages: Iterable[Stage], context: FitContext) -> None:
    """Run stages in order.

    Raises:
        InterruptedTraining: Ctrl-C; what is done is in the checkpoints.
    """
    for stage in stages:
        stage.run(context)


@dataclass(frozen=True)
class CarryStage:
    """Carries a trained model over to another catalogue as it is: items are known by their texts alone, and no recommender is trained."""

    name: str = "transfer"

    def run(self, context: FitContext) -> None:
        """Put the start's weights around an untrained recommender, and make the item matrix."""
        config, count = context.config, len(context.data.item_ids)
        torch.manual_seed(config.seed)
        untrained = build_recommender(config.collaborative, count)
        context.fits[COLLABORATIVE] = SequentialFit(untrained, torch.zeros(count, dtype=torch.bool), 0, 0.0, 0.0)
        context.system.refresh()

    def estimate(self, context: FitContext) -> Estimate:
        """Nothing is predicted of a transfer."""
        return Estimate(self.name)


def costs_of(context: FitContext) -> dict[str, Any]:
    """Return the seconds and trained parameters of the texts, the sequential recommenders and Laser, whose seconds hold those of fusing."""
    texts = {"seconds": context.texts.seconds, "parameters": 0, "bytes": context.texts.bytes}
    if context.vectors is not None:
        texts["seconds"] += context.vectors.seconds
    if not context.stages:
        return {"texts": texts}
    system, fits = context.system, context.fits.values()
    trained = sum(parameter.numel() for parameter in system.model.parameters() if parameter.requires_grad)
    return {
        "texts": texts,
        COLLABORATIVE: {"seconds": sum(fit.seconds for fit in fits), "parameters": sum(fit.parameters for fit in fits)},
        "laser": {"seconds": sum(stage.seconds for stage in context.stages.values()) + context.fusing, "parameters": trained},
    }
