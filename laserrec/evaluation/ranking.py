"""Ranks of targets and lists of best items, from scores over the whole catalogue.

Tensors only: knows nothing of models, ids or metrics. Legend: B histories, N catalogue, H width, S history, K list.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from laserrec.errors import TrainingError
from laserrec.layers.products import BLOCK, laid_out_bytes, products_with

MEMORY_BYTES = 256 * 2**20
"""Bytes that `top_k` may hold at a time."""
CACHED_SCORES = 2**20
"""Scores that it holds at a time on a processor: they are read again at once, out of its cache."""
ROWS = 512
"""Histories that it ranks at a time."""
SHORTEST_CHUNK = 4096
HISTORIES = 128
"""Histories that requests and evaluation score at a time, if the catalogue is not too large for it."""
SCORES_HELD = 2**24
"""Scores that one array [B, N] may hold in requests and evaluation, 64 MiB in float32; some six such arrays are held at a time."""
GROUP = 64
"""Neighbouring scores of which only the highest is looked at first."""
SORTED_AT_ONCE = 2**12
"""Scores of rows with ties that are sorted at a time; one row at least."""
SELECTING, LISTED, STRUCK = 4, 100, 64
"""Bytes that `top_k` holds at most: beside a score while it selects, for a place in a list or a find that waits, for an item left out."""


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
    excluded, (row, item) = scores.clone(), _pairs(items, mask)
    excluded[row, item] = -torch.inf
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


@torch.no_grad()
def top_k(
    queries: Tensor, matrix: Tensor, k: int, *, items: Tensor | None = None, mask: Tensor | None = None, memory_bytes: int = MEMORY_BYTES
) -> TopK:
    """Return the k items with the largest inner product with each query, going through the catalogue in chunks.

    Equals `best(exclude(queries @ matrix.T, items, mask), k)` without holding all scores. It is for catalogues that are vectors, where a
    score is one inner product and nothing else. Laser's own requests do not use it: their score is a sum of several terms, some of which
    no inner product gives, so they rank full scores by `best`.

    Args:
        queries: float [B, H].
        matrix: the catalogue, float [N, H].
        k: length of the lists; all items where k > N.
        items: items that each row may not recommend, int64 [B, S].
        mask: bool [B, S], True where one of `items` is real; all of them when unset.
        memory_bytes: bound on the bytes held at a time beside the arguments and what is returned; what one history takes with
            max(k, 4,096) items is held in any case, and where the queries are laid out for products 64 of them.

    Raises:
        TrainingError: a score is NaN.
    """
    k = min(k, len(matrix))
    found = TopK(queries.new_empty((len(queries), k), dtype=torch.int64), queries.new_empty(len(queries), k))
    rows, chunk = _sizes(queries, k, 0 if items is None else items.shape[1], memory_bytes)
    for at in range(0, len(queries) if k else 0, rows):
        here = slice(at, at + rows)
        struck = None if items is None else _pairs(items[here], None if mask is None else mask[here])
        part = _top_k_rows(queries[here], matrix, k, struck, chunk, first=at)
        found.items[here], found.scores[here] = part
    return found


def _sizes(queries: Tensor, k: int, struck: int, memory_bytes: int) -> tuple[int, int]:
    """Return how many histories and how many items `top_k` looks at together, each history without `struck` of them."""
    most = CACHED_SCORES if queries.device.type == "cpu" else memory_bytes
    shortest = -(-max(k, SHORTEST_CHUNK) // GROUP)
    # In groups of items; beside the rows' own scores, those of a row with ties are held twice more while it is sorted.
    group = GROUP * (queries.element_size() + SELECTING)
    row = LISTED * (2 * k + max(k, 2 * GROUP)) + STRUCK * struck
    # Queries are filled up to whole blocks where they are laid out, so one more takes nothing or a block's bytes.
    block = laid_out_bytes(queries, 1)
    left = memory_bytes - block
    rows = min((left - 2 * shortest * group) // (shortest * group + row + block // BLOCK[0]), most // (shortest * GROUP))
    rows = max(1, min(rows, ROWS, len(queries)))
    left = memory_bytes - laid_out_bytes(queries, rows)
    return rows, max(shortest, min((left - rows * row) // ((rows + 2) * group), most // (rows * GROUP))) * GROUP


def _top_k_rows(queries: Tensor, matrix: Tensor, k: int, struck: tuple[Tensor, Tensor] | None, chunk: int, first: int) -> TopK:
    """Rank for the queries from number `first` on, without the pairs of row and item that are struck out, which are sorted by item."""
    leaders = TopK(queries.new_full((len(queries), k), -1, dtype=torch.int64), queries.new_full((len(queries), k), -torch.inf))
    waiting: list[Found] = []
    # The items that fill no group stand alone at the end, so that nothing else is padded.
    whole = len(matrix) // GROUP * GROUP
    bounds = sorted({*range(0, whole, chunk), whole, len(matrix)})
    score = products_with(queries)
    ends = [] if struck is None else torch.searchsorted(struck[1], torch.tensor(bounds).to(queries.device)).tolist()
    for number, (start, end) in enumerate(pairwise(bounds)):
        here = None if struck is None else (part[ends[number] : ends[number + 1]] for part in struck)
        found = _better(_strike(score(matrix[start:end]), here, start), k, leaders.scores[:, -1], start, first)
        if len(found.row):
            waiting.append(found)
        # A floor that is a little too low lets a few more through; sorting at every chunk would cost more.
        if sum(len(found.row) for found in waiting) >= leaders.items.numel():
            leaders, waiting = _merged(leaders, waiting), []
    return _merged(leaders, waiting)


def _strike(scores: Tensor, struck: Iterable[Tensor] | None, start: int) -> Tensor:
    """Return scores [C, B] of the items from `start` on, with -inf where a pair of row and item is struck out."""
    if struck is not None:
        row, item = struck
        scores[item - start, row] = -torch.inf
    return scores


class Found(NamedTuple):
    """Items that may be among the best, those of a row in ascending order where they tie: rows, items int64 [P] and scores float [P]."""

    row: Tensor
    item: Tensor
    score: Tensor


def _better(scores: Tensor, k: int, floor: Tensor, start: int, first: int) -> Found:
    """Return what scores [C, B] of the items from `start` on hold above each row's floor [B], not much beyond its k best."""
    count, rows = scores.shape
    if count % GROUP:
        scores = pad(scores, (0, 0, 0, -count % GROUP), value=-torch.inf)
    groups = scores.unflatten(0, (-1, GROUP))
    peaks = groups.amax(1)
    _check(peaks.T, first)
    group, row = (peaks > floor).nonzero(as_tuple=True)
    if len(row) > 2 * rows:
        # At first nearly everything is better than nothing.
        items = _pick(scores.T, min(k, len(scores)), peaks.T)
        row = torch.arange(rows, device=scores.device)[:, None].expand_as(items)
        return Found(row.flatten(), items.flatten() + start, scores.T.gather(1, items).flatten())
    near = groups[group, :, row]
    hit, inside = (near > floor[row, None]).nonzero(as_tuple=True)
    return Found(row[hit], group[hit] * GROUP + inside + start, near[hit, inside])


def _merged(leaders: TopK, waiting: list[Found]) -> TopK:
    """Return the best of the leaders [B, K] and of what was found after them, whose indices are higher."""
    count, k = leaders.items.shape
    every = torch.arange(count, device=leaders.items.device)
    found = Found(every.repeat_interleave(k), leaders.items.flatten(), leaders.scores.flatten())
    row, item, score = (torch.cat(parts) for parts in zip(found, *waiting, strict=True))
    # Stable sorts, so of equal scores the lower index stays first.
    order = score.sort(descending=True, stable=True).indices
    order = order[row[order].sort(stable=True).indices]
    row = row[order]
    best = order[torch.arange(len(row), device=row.device) - torch.searchsorted(row, every)[row] < k].view(count, k)
    return TopK(item[best].masked_fill(score[best] == -torch.inf, -1), score[best])


def _pairs(items: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the rows and the items int64 [P] of every real place of items [B, S], sorted by item."""
    row, place = (torch.ones_like(items, dtype=torch.bool) if mask is None else mask).nonzero(as_tuple=True)
    item, order = items[row, place].sort()
    return row[order], item


def _pick(scores: Tensor, k: int, peaks: Tensor | None = None) -> Tensor:
    """Return the indices [B, k] of each row's k highest scores [B, N], best first, of equal ones the lower index first.

    `peaks` are those of groups of neighbours [B, N / GROUP], where they are known and nothing is left over.
    """
    width = scores.shape[1]
    if width < 4 * GROUP * k or not k:
        return _sorted_out(scores, k)
    # The k best stand in the k groups of neighbours with the highest peaks, of equal peaks the first: with k groups before its own, an item
    # would have k better ones before it.
    end = width // GROUP * GROUP
    assert peaks is None or end == width
    peaks = scores[:, :end].unflatten(1, (-1, GROUP)).amax(-1) if peaks is None else peaks
    groups = _sorted_out(peaks, k).sort(1).values
    inside, after = (torch.arange(*ends, device=scores.device) for ends in ((0, GROUP), (end, width)))
    places = torch.cat([(groups[:, :, None] * GROUP + inside).flatten(1), after.expand(len(scores), -1)], dim=1)
    return places.gather(1, _sorted_out(scores.gather(1, places), k))


def _sorted_out(scores: Tensor, k: int) -> Tensor:
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


def _check(scores: Tensor, first: int = 0) -> None:
    # The highest of a row is NaN where any is.
    peaks = scores.amax(1) if scores.numel() else scores
    if bool(peaks.isnan().any()):
        row = first + int(peaks.isnan().nonzero()[0])
        raise TrainingError(f"The scores of history {row} hold NaN, so items cannot be ranked. Use weights from before training diverged.")
