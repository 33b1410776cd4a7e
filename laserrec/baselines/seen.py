"""A penalty on items of the history, chosen on validation, for any baseline.

Laser trains such a penalty δ, so the models it is compared with may have one too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from laserrec.baselines.base import Baseline
from laserrec.data.dataset import Cases
from laserrec.evaluation.metrics import evaluate
from laserrec.system.devices import CPU

STRENGTHS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)


class SeenPenalty:
    """A baseline whose scores are lowered by a constant on the items of the history.

    Attributes:
        strength: δ, in standard deviations of a history's scores.
    """

    def __init__(self, baseline: Baseline, strength: float) -> None:
        """Wrap a baseline."""
        self.baseline, self.strength = baseline, strength

    @classmethod
    def choose(
        cls,
        baseline: Baseline,
        valid: Cases,
        *,
        metric: str = "ndcg@10",
        strengths: Sequence[float] = STRENGTHS,
        device: torch.device = CPU,
    ) -> SeenPenalty:
        """Return the wrapped baseline with the strength that validates best, the smallest of those that tie."""
        candidates = [cls(baseline, strength) for strength in sorted(strengths)]
        values = [float(evaluate(candidate.scores, valid, device=device).per_case(metric).mean()) for candidate in candidates]
        return candidates[int(np.argmax(values))]

    @property
    def name(self) -> str:
        """The baseline's own name: where one model of a table has a penalty, all have, and the table says so."""
        return self.baseline.name

    @property
    def trained_parameters(self) -> int:
        """The baseline's, and δ."""
        return self.baseline.trained_parameters + 1

    def scores(self, items: Tensor, mask: Tensor) -> Tensor:
        """Score the catalogue; see `Baseline`."""
        scores = self.baseline.scores(items, mask)
        row, place = mask.nonzero(as_tuple=True)
        seen = torch.zeros_like(scores, dtype=torch.bool)
        seen[row, items[row, place]] = True
        return scores - seen * (self.strength * scores.std(dim=1, keepdim=True, correction=0))
