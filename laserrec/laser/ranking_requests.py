"""What a request may be answered with: the best items of the catalogue after each history, without those that are barred.

Speaks item indices; ids are looked up by whoever calls. Dimensions: B histories, S history, N catalogue, K list.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from laserrec.data.ragged import Ragged
from laserrec.evaluation.ranking import TopK, best, exclude, rows_at_once
from laserrec.laser.ranker import Ranker
from laserrec.laser.validation import check_ids
from laserrec.layers.histories import padded


@dataclass(frozen=True)
class Recommendation:
    """One recommended item.

    Attributes:
        item_id: the caller's own id.
        title: the item's title, or its id where it has none.
        score: what it was ranked by; comparable within one history only.
    """

    item_id: str
    title: str
    score: float


@dataclass(frozen=True)
class EncodedHistories:
    """How the language model read some histories.

    Attributes:
        states: one for each, float32 [B, H].
        experts: which query expert read each, from 0; None where the prefix does not come from an M-Former.
    """

    states: NDArray[np.float32]
    experts: list[int] | None


def barred_items(
    find: Callable[[str], int], count: int, only: Collection[str] | None, without: Collection[str] | None
) -> NDArray[np.bool_] | None:
    """Return which items must not be recommended, bool [N]; None where all may be.

    Args:
        find: gives an id's index, or refuses it.
        count: N.
        only: ids to choose from; all when None.
        without: ids that are never recommended, whatever `only` says.

    Raises:
        DataError: one of the two is no collection of strings.
        UnknownIdError: the catalogue does not hold an id.
    """
    if only is None and without is None:
        return None
    barred = np.full(count, only is not None)
    for name, ids, value in (("only", only, False), ("without", without, True)):
        for item_id in check_ids(name, () if ids is None else ids):
            barred[find(item_id)] = value
    return barred


def rank(
    ranker: Ranker,
    histories: Sequence[Sequence[int]],
    k: int,
    *,
    exclude_seen: bool,
    barred: NDArray[np.bool_] | None = None,
    states: Tensor | None = None,
) -> Iterator[TopK]:
    """Rank the catalogue after histories, a part of them at a time.

    Args:
        ranker: scores the catalogue.
        histories: item indices; those beyond the catalogue are texts that cannot be recommended.
        k: K, at most N of which come back.
        exclude_seen: leave each history's own items out.
        barred: items that no list may hold, bool [N].
        states: how the language model read the histories, [B, H]; it reads them when None.

    Yields:
        The lists of the next histories.
    """
    count, device = len(ranker.directions), ranker.directions.device
    left_out = None if barred is None else torch.from_numpy(barred).to(device)
    rows = rows_at_once(count)
    for start in range(0, len(histories), rows):
        items, mask = padded(Ragged.from_rows(histories[start : start + rows]), device)
        scores = ranker.scores(items, mask, None if states is None else states[start : start + rows])
        if left_out is not None:
            scores = scores.masked_fill(left_out, -torch.inf)
        if exclude_seen:
            inside = mask & (items < count)
            scores = exclude(scores, torch.where(inside, items, 0), inside)
        yield best(scores, k)
