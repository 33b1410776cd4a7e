"""Ranks of targets and lists of best items, from scores over the whole catalogue.

Tensors only: knows nothing of models, ids or metrics. Legend: B histories, N catalogue, H width, S history, K list.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from laserrec.errors import TrainingError

MEMORY_BYTES = 256 * 2**20
"""Scores that `top_k` holds at a time."""


class TopK(NamedTuple):
    """The best items of each history, best first; of equal scores the lower index comes first.

    Attributes:
        items: int64 [B, K]; -1 where fewer than K items may be recommended.
        scores: float [B, K]; -inf there.
    """

    items: Tensor
    scores: Tensor


def target_ranks(scores: Tensor, targets: Tensor) -> Tensor:
    """Return each target's place in the ranking of the whole catalogue, 1 for the best; ties count against the target.

    Args:
        scores: float [B, N].
        targets: item indices, int64 [B].

    Returns:
        int64 [B]: 1 + the number of other items that score at least as high.

    Raises:
        TrainingError: a score is NaN.
    """
    _check(scores)
    return (scores >= scores.gather(1, targets[:, None])).sum(1)


def exclude(scores: Tensor, items: Tensor, mask: Tensor, keep: Tensor | None = None) -> Tensor:
    """Return the scores with the items of each history at -inf.

    Args:
        scores: float [B, N].
        items: item indices, int64 [B, S].
        mask: bool [B, S], True where an item is real.
        keep: item indices, int64 [B], whose score stays whatever the history holds: the targets of an evaluation.
    """
    excluded = scores.clone()
    _strike(excluded, items, mask, start=0)
    return excluded if keep is None else excluded.scatter(1, keep[:, None], scores.gather(1, keep[:, None]))


def best(scores: Tensor, k: int) -> TopK:
    """Return the k best items of each row of scores [B, N]; all of them where k > N.

    Raises:
        TrainingError: a score is NaN.
    """
    _check(scores)
    k = min(k, scores.shape[1])
    values, items = scores.topk(k, dim=1)
    # topk picks any of the items that tie at the end of the list; rows where that matters are sorted in full.
    if k:
        tied = (scores >= values[:, -1:]).sum(1) > k
        items[tied] = scores[tied].sort(dim=1, descending=True, stable=True).indices[:, :k]
    return _ordered(items, scores.gather(1, items))


def top_k(
    queries: Tensor, matrix: Tensor, k: int, *, items: Tensor | None = None, mask: Tensor | None = None, memory_bytes: int = MEMORY_BYTES
) -> TopK:
    """Return the k items with the largest inner product with each query, going through the catalogue in chunks.

    Equals `best(exclude(queries @ matrix.T, items, mask), k)` without holding all scores.

    Args:
        queries: float [B, H].
        matrix: the catalogue, float [N, H].
        k: length of the lists; all items where k > N.
        items: items that each row may not recommend, int64 [B, S].
        mask: bool [B, S], True where one of `items` is real; all of them when unset.
        memory_bytes: bound on the scores held at a time.

    Raises:
        TrainingError: a score is NaN.
    """
    k = min(k, len(matrix))
    chunk = min(max(len(matrix), 1), max(k, 4096, memory_bytes // (queries.element_size() * max(len(queries), 1))))
    rows = max(1, memory_bytes // (queries.element_size() * chunk))
    parts = [
        _top_k_rows(queries[at : at + rows], matrix, k, None if items is None else _rows(items, mask, at, rows), chunk)
        for at in range(0, max(len(queries), 1), rows)
    ]
    return TopK(torch.cat([part.items for part in parts]), torch.cat([part.scores for part in parts]))


def _top_k_rows(queries: Tensor, matrix: Tensor, k: int, excluded: tuple[Tensor, Tensor] | None, chunk: int) -> TopK:
    leaders = TopK(torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device), queries.new_empty(len(queries), 0))
    for start in range(0, len(matrix), chunk):
        scores = queries @ matrix[start : start + chunk].T
        _check(scores)
        if excluded is not None:
            _strike(scores, *excluded, start=start)
        found = best(scores, k)
        # Leaders stand before the new items, whose indices are higher, so the lower index still wins a tie.
        merged = torch.cat([leaders.scores, found.scores], dim=1)
        where = torch.cat([leaders.items, torch.where(found.items >= 0, found.items + start, -1)], dim=1)
        places = merged.sort(dim=1, descending=True, stable=True).indices[:, :k]
        leaders = TopK(where.gather(1, places), merged.gather(1, places))
    return leaders


def _rows(items: Tensor, mask: Tensor | None, at: int, rows: int) -> tuple[Tensor, Tensor]:
    items = items[at : at + rows]
    return items, torch.ones_like(items, dtype=torch.bool) if mask is None else mask[at : at + rows]


def _strike(scores: Tensor, items: Tensor, mask: Tensor, start: int) -> None:
    """Set items to -inf in scores of the catalogue's part that begins at `start`."""
    row, place = (mask & (items >= start) & (items < start + scores.shape[1])).nonzero(as_tuple=True)
    scores[row, items[row, place] - start] = -torch.inf


def _ordered(items: Tensor, scores: Tensor) -> TopK:
    by_index = items.argsort(dim=1)
    items, scores = items.gather(1, by_index), scores.gather(1, by_index)
    places = scores.argsort(dim=1, descending=True, stable=True)
    items, scores = items.gather(1, places), scores.gather(1, places)
    return TopK(items.masked_fill(scores == -torch.inf, -1), scores)


def _check(scores: Tensor) -> None:
    if bool(scores.isnan().any()):
        row = int(scores.isnan().any(1).nonzero()[0])
        raise TrainingError(f"The scores of history {row} hold NaN, so items cannot be ranked. Use weights from before training diverged.")
