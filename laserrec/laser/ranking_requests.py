"""What a request may be answered with: the best items of a catalogue after each history, without those that are barred.

Dimensions: B histories, S history, N catalogue, K list.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from laserrec.data.ragged import Ragged
from laserrec.evaluation.ranking import TopK, best, exclude, rows_at_once
from laserrec.laser.catalogue import Catalogue
from laserrec.laser.validation import check_choice, check_ids, check_states
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
        vectors: what items are compared with, at length 1, float32 [B, H]: an inner product with `Laser.item_vectors` is the cosine.
        experts: which query expert read each, from 0; None where the prefix does not come from an M-Former.
    """

    states: NDArray[np.float32]
    vectors: NDArray[np.float32]
    experts: list[int] | None


Choice = Collection[str] | NDArray[np.bool_]
"""Items to choose from: their ids, or which of the catalogue's they are, bool [N] in the order of `Laser.item_ids`."""


def barred_items(catalogue: Catalogue, only: Choice | None, without: Collection[str] | None) -> Tensor:
    """Return which items must not be recommended, bool [N]: those that are removed, and what a request rules out.

    Args:
        catalogue: whose items.
        only: items to choose from; all when None.
        without: ids that are never recommended, whatever `only` says.

    Raises:
        DataError: one of the two is no collection of strings, or a mask of another length.
        UnknownIdError: the catalogue does not hold an id.
    """
    barred = catalogue.removed
    if isinstance(only, np.ndarray):
        barred = barred.masked_scatter(~barred, ~check_choice(only, len(catalogue.index)).to(barred.device))
    elif only is not None:
        barred = torch.ones_like(barred).index_fill_(0, _indices(catalogue, "only", only), value=False)
    if without is not None:
        barred = barred.index_fill(0, _indices(catalogue, "without", without), value=True)
    return barred


def _indices(catalogue: Catalogue, name: str, ids: Collection[str]) -> Tensor:
    found = [catalogue.find(item_id) for item_id in check_ids(name, ids)]
    return torch.tensor(found, dtype=torch.int64, device=catalogue.removed.device)


def recommend(
    catalogue: Catalogue,
    score: Callable[..., Tensor],
    histories: Sequence[Sequence[int]],
    k: int,
    barred: Tensor,
    *,
    exclude_seen: bool,
    states: NDArray[np.float32] | None = None,
) -> list[list[Recommendation]]:
    """Rank a catalogue after histories, a part of them at a time.

    Args:
        catalogue: its items are recommended.
        score: scores all of them, [B, N], after histories int64 [B, S] under a mask bool [B, S], and states [B, H] where they are given.
        histories: of indices that `score` knows.
        k: K; fewer come back where fewer are left.
        barred: items that no list may hold, bool [N].
        exclude_seen: leave each history's own items out; its indices are then the catalogue's.
        states: how the language model read the histories, [B, H]; `score` reads them when None.

    Raises:
        DataError: the states are of another shape or type.
    """
    read = None if states is None else check_states(states, len(histories), catalogue.states[:0])
    found: list[list[Recommendation]] = []
    some_barred, rows = bool(barred.any()), rows_at_once(len(catalogue))
    for start in range(0, len(histories), rows):
        items, mask = padded(Ragged.from_rows(histories[start : start + rows]), barred.device)
        scores = score(items, mask) if read is None else score(items, mask, read[start : start + rows])
        if some_barred:
            scores = scores.masked_fill(barred, -torch.inf)
        if exclude_seen:
            scores = exclude(scores, items, mask)
        found += described(catalogue, best(scores, k))
    return found


def similar(catalogue: Catalogue, item_id: str, k: int) -> list[Recommendation]:
    """Return the k items nearest to one by their directions, with their cosines as scores; arguments as in `Laser.similar_items`."""
    place, directions = catalogue.find(item_id), catalogue.unit_vectors
    cosines = directions.times(directions[place : place + 1]).masked_fill(catalogue.removed, -torch.inf)
    cosines[:, place] = -torch.inf
    return described(catalogue, best(cosines, k))[0]


def described(catalogue: Catalogue, top: TopK) -> list[list[Recommendation]]:
    """Return lists of a catalogue's best items as their callers know them."""
    rows = zip(top.items.tolist(), top.scores.tolist(), strict=True)
    return [
        [Recommendation(catalogue.ids[item], catalogue.title(item), score) for item, score in zip(*row, strict=True) if item >= 0]
        for row in rows
    ]
