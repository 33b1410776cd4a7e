"""A penalty on items of the history, chosen on validation, for baselines that do not train one as Laser does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from laserrec.baselines.base import Fitted

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from laserrec.data.dataset import Cases

STRENGTHS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""In standard deviations of a history's scores."""
METRIC = "ndcg@10"


def penalised(fitted: Fitted, strength: float) -> Fitted:
    """Lower a baseline's scores by `strength` standard deviations on the items of the history."""
    import torch

    def scores(items: Tensor, mask: Tensor) -> Tensor:
        found = fitted.scores(items, mask)
        row, place = mask.nonzero(as_tuple=True)
        seen = torch.zeros_like(found, dtype=torch.bool)
        seen[row, items[row, place]] = True
        return found - seen * (strength * found.std(dim=1, keepdim=True, correction=0))

    return replace(fitted, scores=scores, parameters=fitted.parameters + 1)


def choose_penalty(fitted: Fitted, cases: Cases, device: torch.device) -> Fitted:
    """Return a baseline with the penalty that validates best, the smallest of those that tie; without one where there are no cases."""
    from laserrec.evaluation.metrics import evaluate

    if not len(cases):
        return fitted
    candidates = [penalised(fitted, strength) for strength in STRENGTHS]
    values = [float(evaluate(each.scores, cases, device=device).per_case(METRIC).mean()) for each in candidates]
    return candidates[values.index(max(values))]
