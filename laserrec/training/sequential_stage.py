"""The stage that trains a sequential recommender: the one that Laser reads histories with, one of the ensemble's, or a baseline."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from laserrec.config import CollaborativeConfig, FitConfig, LaserConfig
from laserrec.sequential.build import build_recommender
from laserrec.sequential.item_table import whiten
from laserrec.training.context import COLLABORATIVE, FitContext, SequentialFit
from laserrec.training.estimates import Estimate, estimate_fit
from laserrec.training.sequential_task import CollaborativeTask

REFIT_SEEDS = 1000
"""From one refit's seed to the next one's; runs with seeds near each other share none."""
ROWS, CASES = 256, 512
"""Of an estimate."""


@dataclass(frozen=True)
class SequentialStage:
    """Trains a sequential recommender, and fixes its item vectors and features to plain embeddings whatever they were made from.

    Attributes:
        name: what progress and the folder call it.
        model: its architecture.
        learning: how to train it.
        seed: of weights, order and dropout.
        hold_out: training events at each history's end that it must not learn from.
    """

    name: str
    model: CollaborativeConfig
    learning: FitConfig
    seed: int
    hold_out: int = 0

    def run(self, context: FitContext) -> None:
        """Train it, or read it from its checkpoint."""
        task = self._task(context)
        texts = {"texts": dict(context.vectors.source)} if self.model.reads_texts and context.vectors else {}
        identity, micro = self.identity | texts, context.config.runtime.sequential_micro_batch
        result = context.fit(task, self.learning, name=self.name, seed=self.seed, identity=identity, micro_batch=micro)
        parameters = sum(parameter.numel() for parameter in task.model.parameters())
        task.model.fix_items()
        context.fits[self.name] = SequentialFit(task.model, task.seen(), parameters, result.seconds, result.best_score)

    def estimate(self, context: FitContext) -> Estimate:
        """Predict the fit; its untrained model is left in the context."""
        settings = self.model, self.learning
        if settings in context.tried:  # another seed takes as long
            tried = context.tried[settings]
            context.fits[self.name] = context.fits[tried.name]
            return replace(tried, name=self.name)
        task = self._task(context)
        room = context.memory_for_trials // (4 * len(context.data.item_ids))  # scores of the whole catalogue, in float32
        rows = max(1, min(self.learning.batch_size, ROWS, room // (3 * self.model.max_history)))
        cases = max(1, min(CASES, room // 4))
        found = estimate_fit(self.name, task, self.learning, rows=rows, cases=cases, micro_batch="sequential_micro_batch")
        task.model.fix_items()
        context.fits[self.name] = SequentialFit(task.model, task.seen(), 0, 0.0, 0.0)
        context.tried[settings] = found
        return found

    def _task(self, context: FitContext) -> CollaborativeTask:
        torch.manual_seed(self.seed)
        texts, attributes = None, None
        if self.model.model == "fdsa":
            attributes = torch.from_numpy(context.data.attribute_codes())
        if self.model.reads_texts:
            assert context.vectors is not None, "text vectors come before what reads them"
            texts = whiten(context.vectors.values)
        # Weights are drawn on the CPU, so that they are the same wherever the training goes on.
        model = build_recommender(self.model, len(context.data.item_ids), texts, attributes).to(context.device)
        return CollaborativeTask(model, context.histories, context.cases(self.learning), hold_out=self.hold_out)

    @property
    def identity(self) -> dict[str, Any]:
        """What the fit depends on beside the dataset and the texts that it may read."""
        return {
            "seed": self.seed,
            "hold_out": self.hold_out,
            "model": self.model.architecture,
            "fit": self.learning.model_dump(mode="json"),
        }


def collaborative_stage(config: LaserConfig) -> SequentialStage:
    """Return the stage of the recommender that Laser reads histories with."""
    own = config.collaborative
    return SequentialStage(COLLABORATIVE, own, config.fit_collaborative, config.seed, own.hold_out)


def refit_stages(config: LaserConfig) -> list[SequentialStage]:
    """Return the stages of the recommenders whose mean score Laser fuses in the end, trained on all positions.

    None where nothing was held out or nothing is fused. The first of its kind is what a baseline on the same data is. Continuing from
    the weights at hand costs as much as starting afresh and ends slightly below it (docs/log.md).
    """
    if not (config.collaborative.hold_out and config.score.fuse_collaborative):
        return []
    found: list[SequentialStage] = []
    for items in config.collaborative.refits:
        experts = 1 if items == "id" else config.collaborative.text_experts
        model = config.collaborative.model_copy(update={"items": items, "text_experts": experts})
        alike = sum(other.model.items == items for other in found)
        name = f"{model.name}-{alike + 1}" if alike else model.name
        found.append(SequentialStage(name, model, config.fit_collaborative, config.seed + REFIT_SEEDS * alike))
    return found
