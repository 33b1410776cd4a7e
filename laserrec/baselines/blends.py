"""Several baselines as one: their scores are added up, with weights fitted on validation as Laser's own scalars are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laserrec.baselines.base import Baseline, Fitted
from laserrec.baselines.ease import EASE
from laserrec.baselines.ensemble import EnsembleBaseline
from laserrec.baselines.item_knn import ITEM_NEIGHBOURS
from laserrec.baselines.tf_idf import TF_IDF

if TYPE_CHECKING:
    from laserrec.config import LaserConfig
    from laserrec.training.context import FitContext, Stage


@dataclass(frozen=True)
class BlendBaseline:
    """A weighted sum of other baselines' scores.

    Attributes:
        name: what the command line calls it.
        label: what tables call it.
        summary: what it is, in a few words.
        parts: the baselines that are added up.
    """

    name: str
    label: str
    summary: str
    parts: tuple[Baseline, ...]

    def stages(self, config: LaserConfig) -> Sequence[Stage]:
        """Return what its parts need."""
        return [stage for part in self.parts for stage in part.stages(config)]

    def depends_on(self, config: LaserConfig) -> dict[str, Any]:
        """Return what its parts depend on, and the cases by which they are weighed."""
        found: dict[str, Any] = {"stage2": {"validation_cases": config.stage2.validation_cases}}
        for part in self.parts:
            found |= part.depends_on(config)
        return found

    def fit(self, context: FitContext) -> Fitted:
        """Make the parts, and fit their weights."""
        import torch

        from laserrec.training.blending import Blend

        fitted = [part.fit(context) for part in self.parts]
        began, count = time.monotonic(), len(context.data.item_ids)
        start = torch.ones(len(fitted), device=context.device)
        cases = context.cases(context.config.stage2)
        blend = Blend.fit([part.scores for part in fitted], start, cases, count, context.config.seed)
        seconds = time.monotonic() - began + sum(part.seconds for part in fitted)
        return Fitted(self.label, blend.scores, seconds, len(fitted) + sum(part.parameters for part in fitted))


KNN_TF_IDF = BlendBaseline("knn-tf-idf", "Neighbours + TF-IDF", "both, with two weights fitted on validation", (ITEM_NEIGHBOURS, TF_IDF))
KNN_TF_IDF_EASE = BlendBaseline(
    "knn-tf-idf-ease", "Neighbours + TF-IDF + EASE", "all three: the best without any network", (ITEM_NEIGHBOURS, TF_IDF, EASE)
)
ENSEMBLE_TF_IDF_EASE = BlendBaseline(
    "ensemble-tf-idf-ease",
    "Ensemble + TF-IDF + EASE",
    "the ensemble, which holds neighbours and EASE, and TF-IDF: everything that has no language model in its score",
    (EnsembleBaseline(), TF_IDF),
)
