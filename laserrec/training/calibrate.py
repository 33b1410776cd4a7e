"""Finding where the score's scalars start: 1/τ, κ, γ and δ, fitted on training targets while nothing else is trained.

How far an id-based model can be trusted differs from catalogue to catalogue, and a scalar moves slowly under the learning rate of
matrices: with few histories an epoch, training alone would end far from the right weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from laserrec.nn.laser import LaserSystem

CASES = 1000
SCORES_HELD = 30_000_000
"""Kept while scalars are fitted: a case has three a catalogue's item, its cosine, its nearness and its collaborative score."""
BATCH = 64
PULL = 0.1
"""Weight of a stored scalar's squared distance from its start, so that few cases cannot drive it to infinity."""


def calibrate(laser: LaserSystem, items: Tensor, mask: Tensor, targets: Tensor, left_out: Tensor | None = None) -> None:
    """Fit the scalars that the settings train.

    Args:
        laser: its item matrix must be fresh; its scorer is changed.
        items: histories, item indices int64 [R, S], padded on the right, on the system's device like what follows.
        mask: bool [R, S].
        targets: the item that followed each history, int64 [R].
        left_out: items that are no wrong answers, int64.
    """
    scorer = laser.model.scorer
    scalars = scorer.scalars
    if not scalars or not len(items):
        return
    starts = [scalar.detach().clone() for scalar in scalars]
    batches = zip(items.split(BATCH), mask.split(BATCH), targets.split(BATCH), strict=True)
    parts = [(laser.evidence(histories, real), histories, real, following) for histories, real, following in batches]

    def loss() -> Tensor:
        total = sum(((scalar - start) ** 2 for scalar, start in zip(scalars, starts, strict=True)), scalars[0].new_zeros(())) * PULL
        for evidence, histories, real, following in parts:
            logits = scorer.combine(evidence, histories, real)
            if left_out is not None:
                logits = logits.index_fill(1, left_out, -torch.inf)
            total = total + cross_entropy(logits, following, reduction="sum") / len(items)
        return total

    minimise(loss, scalars)


def minimise(loss: Callable[[], Tensor], scalars: Sequence[Tensor]) -> None:
    """Set a few scalars to where a loss is smallest; to where they were, should that not be finite."""
    starts = [scalar.detach().clone() for scalar in scalars]
    optimizer = torch.optim.LBFGS(scalars, max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    if not all(bool(torch.isfinite(scalar).all()) for scalar in scalars):
        with torch.no_grad():
            for scalar, start in zip(scalars, starts, strict=True):
                scalar.copy_(start)
    optimizer.zero_grad()


def cases_held(catalogue_size: int) -> int:
    """Return how many cases to fit on: at most `CASES`, fewer where the catalogue's scores would take too much memory."""
    return max(1, min(CASES, SCORES_HELD // (3 * catalogue_size)))
