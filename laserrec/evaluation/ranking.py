"""Rank targets and list the best items, from scores over the whole catalogue.

Tensors only: knows nothing of models, ids or metrics. Legend: B histories, N catalogue, S history, K list.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from laserrec.errors import TrainingError

HISTORIES = 128
"""Histories that requests and evaluation score at a time, if the catalogue is not too large for it."""
SCORES_HELD = 2**24
"""Scores that one array [B, N] may hold in requests and evaluation, 64 MiB in float32; some six such arrays are held at a time."""
GROUP = 64
"""Neighbouring scores of which only the highest is looked at first: without it ten of a million items take two to four times as long."""
SORTED_AT_ONCE = 2**12
"""Scores of rows with ties that are sorted at a time; one row at least."""


class TopK(NamedTuple):
    """The best items of each history, best first; of equal scores the lower index comes first.

    Attributes:
        items: int64 [B, K]; -1 where fewer than K items may be recommended.
        scores: float [B, K]; -inf there.
    """

    items: Tensor
    scores: Tensor


def rows_at_once(catalogue: int, most: int = HISTORIES) -> int:
    """Return how many histories to score at a time: `most`, fewer where the scores of `catalogue` items each would be too many to hold."""
    return max(1, min(most, SCORES_HELD // max(catalogue, 1)))


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
    row, place = mask.nonzero(as_tuple=True)
    excluded = scores.clone()
    excluded[row, items[row, place]] = -torch.inf
    return excluded if keep is None else excluded.scatter_(1, keep[:, None], scores.gather(1, keep[:, None]))


def best(scores: Tensor, k: int) -> TopK:
    """Return the k best items of each row of scores [B, N]; all of them where k > N.

    Raises:
        TrainingError: a score is NaN.
    """
    _check(scores)
    items = _pick(scores, min(k, scores.shape[1]))
    found = scores.gather(1, items)
    return TopK(items.masked_fill(found == -torch.inf, -1), found)


def _pick(scores: Tensor, k: int) -> Tensor:
    """Return the indices [B, k] of each row's k highest scores [B, N], best first, of equal ones the lower index first."""
    width = scores.shape[1]
    if width < 4 * GROUP * k or not k:  # a shorter catalogue is sorted as fast without groups
        return _sorted_out(scores, k)
    # The k best stand in the k groups of neighbours with the highest peaks, of equal peaks the first: with k groups before its own, an item
    # would have k better ones before it.
    end = width // GROUP * GROUP
    peaks = scores[:, :end].unflatten(1, (-1, GROUP)).amax(-1)
    groups = _sorted_out(peaks, k).sort(1).values
    inside = torch.arange(GROUP, device=scores.device)
    after = torch.arange(end, width, device=scores.device)
    places = torch.cat([(groups[:, :, None] * GROUP + inside).flatten(1), after.expand(len(scores), -1)], dim=1)
    return places.gather(1, _sorted_out(scores.gather(1, places), k))


def _sorted_out(scores: Tensor, k: int) -> Tensor:
    """Return the indices [B, k] of the k highest scores [B, N] like `_pick`, looking at every score."""
    values, items = scores.topk(min(k + 1, scores.shape[1]), dim=1)
    items = items[:, :k]
    if not k:
        return items
    # topk picks any of the items that tie at the end of the list; rows where that matters are sorted in full.
    tied = values[:, k - 1] == values[:, -1] if values.shape[1] > k else values.new_zeros(len(values), dtype=torch.bool)
    for rows in tied.nonzero()[:, 0].split(max(1, SORTED_AT_ONCE // scores.shape[1])):
        items[rows] = scores[rows].sort(dim=1, descending=True, stable=True).indices[:, :k]
    items = items.sort(dim=1).values
    return items.gather(1, scores.gather(1, items).argsort(dim=1, descending=True, stable=True))


def _check(scores: Tensor) -> None:
    # The highest of a row is NaN where any is.
    peaks = scores.amax(1) if scores.numel() else scores
    if bool(peaks.isnan().any()):
        row = int(peaks.isnan().nonzero()[0])
        raise TrainingError(f"The scores of history {row} hold NaN, so items cannot be ranked. Use weights from before training diverged.")
