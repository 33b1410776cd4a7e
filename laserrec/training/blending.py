"""Fit the weights of a few scores that are added up, on cases that none of them was trained on.

Dimensions: B batch, S history, N catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from laserrec.data.dataset import Cases
from laserrec.evaluation.metrics import Scorer
from laserrec.layers.histories import padded
from laserrec.training.calibration import CASES, in_batches, minimise
from laserrec.training.candidates import Candidates


@dataclass(frozen=True)
class Blend:
    """A weighted sum of scores.

    Attributes:
        parts: functions from histories, items int64 [B, S] under a mask bool [B, S], to scores float [B, N].
        weights: one for each part, float, not below 0.
    """

    parts: Sequence[Scorer]
    weights: Tensor

    @classmethod
    def fit(cls, parts: Sequence[Scorer], start: Tensor, cases: Cases, count: int, seed: int) -> Blend:
        """Choose the weights with which the softmax of the sum is likeliest to give what followed.

        Args:
            parts: the scores, of one catalogue.
            start: weights to start from, which are kept where there is no case or every fitted weight is 0; on the parts' device.
            cases: of validation; `CASES` of them at most are used.
            count: N.
            seed: of the draw of cases and candidates, where not all are needed.
        """
        if not len(cases):
            return cls(parts, start)
        fitted = cases.sample(CASES, seed)
        items, mask = padded(fitted.histories, start.device)
        targets, generator, batches = torch.from_numpy(fitted.targets).to(start.device), torch.Generator().manual_seed(seed), []
        with torch.no_grad():
            for histories, real, following in in_batches(count, items, mask, targets):
                among = Candidates.draw(count, following, None, generator)
                scores = torch.stack([part(histories, real)[:, among.items] for part in parts])
                batches.append((scores, among.stands_for, among.find(following)))
        weights = start.clone().requires_grad_()

        def loss() -> Tensor:
            losses = [
                cross_entropy(torch.einsum("p,pbn->bn", weights, scores) + stands_for, following, reduction="sum")
                for scores, stands_for, following in batches
            ]
            return torch.stack(losses).sum() / len(items)

        minimise(loss, [weights])
        found = weights.detach().clamp(min=0)
        return cls(parts, found if found.any() else start)

    def scores(self, items: Tensor, mask: Tensor) -> Tensor:
        """Score every item after histories, items int64 [B, S] under a mask bool [B, S]: float [B, N]."""
        total = self.weights[0] * self.parts[0](items, mask)
        for part, weight in zip(self.parts[1:], self.weights[1:], strict=True):  # one by one: not all are ever held
            total.addcmul_(weight, part(items, mask))
        return total
