"""Finding where the score's scalars start: 1/τ, κ, γ and δ, fitted on training targets while nothing else is trained.

How far a sequential recommender can be trusted differs from catalogue to catalogue, and a scalar moves slowly under the learning rate of
matrices: with few histories an epoch, training alone would end far from the right weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from laserrec.laser.system import LaserSystem
from laserrec.training.candidates import OTHERS, Candidates

CASES = 1000
"""With up to some ten thousand candidates each."""
SCORES_HELD = 40_000_000
"""Made at a time while score terms are gathered: a case has `TERMS` for each item of the catalogue."""
TERMS = 4
"""Cosine, neighbours, words and collaborative score."""
BATCH = 64
PULL = 0.1
"""Weight of a stored scalar's squared distance from its start, beside the mean over `CASES` cases."""


def pull(cases: int) -> float:
    """Return that weight beside the mean over fewer cases: what the start is worth does not shrink with them.

    Else nine users can turn the score around (docs/log.md).
    """
    return PULL * CASES / cases


def calibrate(laser: LaserSystem, items: Tensor, mask: Tensor, targets: Tensor, left_out: Tensor | None = None, *, seed: int = 0) -> None:
    """Fit the scalars that the settings train.

    Args:
        laser: its item matrix must be fresh; its scorer is changed.
        items: histories, item indices int64 [R, S], padded on the right, on the system's device like what follows.
        mask: bool [R, S].
        targets: the item that followed each history, int64 [R].
        left_out: items that are no wrong answers, int64.
        seed: of the candidates drawn from a long catalogue.
    """
    scorer = laser.model.scorer
    scalars = scorer.scalars
    if not scalars or not len(items):
        return
    starts = [scalar.detach().clone() for scalar in scalars]
    generator, count = torch.Generator().manual_seed(seed), len(laser.model.item_states)
    parts = []
    for histories, real, following in in_batches(count, items, mask, targets):
        needed = torch.cat([histories[real], following])
        among = Candidates.draw(count, needed, left_out, generator)
        terms = laser.score_terms(histories, real).of(among.items)
        parts.append((terms, among.find(histories), real, among.find(following), among.stands_for))

    def loss() -> Tensor:
        away = sum(((scalar - start) ** 2 for scalar, start in zip(scalars, starts, strict=True)), scalars[0].new_zeros(()))
        total = pull(len(items)) * away
        for terms, histories, real, following, stands_for in parts:
            logits = scorer.combine(terms, histories, real) + stands_for
            total = total + cross_entropy(logits, following, reduction="sum") / len(items)
        return total

    minimise(loss, scalars)


def terms_bytes(count: int, longest: int) -> int:
    """Return the bytes that fitting takes at most: four scores a case and candidate, and what their gradients take.

    Args:
        count: items of the catalogue.
        longest: items of the longest history, all of which are candidates beside those drawn.
    """
    return 4 * (TERMS + 2) * CASES * min(count, OTHERS + BATCH * longest)


def in_batches(count: int, *rows: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Divide rows, of each tensor alike, into parts of which `count` scores a row may be made at a time."""
    size = max(1, min(BATCH, SCORES_HELD // (TERMS * count)))
    return zip(*(tensor.split(size) for tensor in rows), strict=True)


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
