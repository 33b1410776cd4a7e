"""Items that were taken together: neighbours counted from training histories, and blended into an ensemble.

Counting is the oldest recommender there is, and it errs otherwise than networks do (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from laserrec.data.dataset import Cases
from laserrec.data.ragged import Ragged
from laserrec.evaluation.metrics import Scorer
from laserrec.layers.histories import recent
from laserrec.layers.neighbours import COUNT, EVENTS_FLOOR, Neighbours
from laserrec.sequential.base import SequentialRecommender
from laserrec.sequential.ensemble import Ensemble
from laserrec.training.blending import Blend

REACH = 7
"""Events that two items may lie apart."""
FORWARD, BACKWARD, FADING = 1000, 500, 0.8
"""A pair weighs most where the second item came right after the first. In whole thousandths, so that sums do not depend on their order."""
SHRINKAGE = 10
"""Events added to each item's own, so that a pair of items that were taken once each does not outweigh well-known ones."""
PAIRS_HELD = 2**21
"""Pairs that are made before they are added up and only the nearest are kept; they take some 80 bytes each."""


def count_neighbours(histories: Ragged, catalogue_size: int) -> Neighbours:
    """Count neighbours: w(i, j) = pairs(i, j) / √((events(i) + s) (events(j) + s)), pairs weighed by their distance and order.

    Args:
        histories: training histories.
        catalogue_size: N.
    """
    events = np.bincount(histories.values, minlength=catalogue_size)
    neighbours = Neighbours(catalogue_size, EVENTS_FLOOR)
    # A pair is made from either end, so the events of an item find all of its pairs, and items can be done one part after the other.
    for places in _in_parts(histories.values.argsort(kind="stable"), events):
        item, other, count = _pairs(histories, places, catalogue_size)
        keep_nearest(neighbours, item, other, count / FORWARD / np.sqrt((events[item] + SHRINKAGE) * (events[other] + SHRINKAGE)))
    return neighbours


def _in_parts(places: NDArray[np.int64], events: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Divide places ordered by item where an item ends, so that a part makes about `PAIRS_HELD` pairs; an item is never divided."""
    ends = events.cumsum()
    wanted = np.arange(0, len(places), PAIRS_HELD // (2 * REACH))[1:]
    return np.split(places, np.unique(ends[np.searchsorted(ends, wanted)]))


def _pairs(
    histories: Ragged, places: NDArray[np.int64], catalogue_size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the distinct pairs of the items at some places with others, in order, and the sums of their weights."""
    rows = np.searchsorted(histories.offsets, places, side="right") - 1
    starts, ends = histories.offsets[rows], histories.offsets[rows + 1]
    codes, weights = [], []
    for apart in range(1, REACH + 1):
        for there, weight in ((places + apart, FORWARD), (places - apart, BACKWARD)):
            inside = (starts <= there) & (there < ends)
            item, other = histories.values[places[inside]], histories.values[there[inside]]
            codes.append((item * catalogue_size + other)[item != other])
            weights.append(np.full(len(codes[-1]), round(weight * FADING ** (apart - 1))))
    found, which = np.unique(np.concatenate(codes), return_inverse=True)
    item, other = np.divmod(found, catalogue_size)
    # Added up in float64, which holds sums of whole numbers exactly.
    return item, other, np.bincount(which, np.concatenate(weights), len(found)).astype(np.float64, copy=False)


def keep_nearest(neighbours: Neighbours, item: NDArray[np.int64], other: NDArray[np.int64], weight: NDArray[np.float64]) -> None:
    """Keep the nearest of each item; of equal ones those with the lower index."""
    order = np.lexsort((other, -weight, item))
    item, other, weight = item[order], other[order], weight[order]
    place = np.arange(len(item)) - np.searchsorted(item, item)
    kept = place < COUNT
    where = torch.from_numpy(item[kept]), torch.from_numpy(place[kept])
    neighbours.items[where] = torch.from_numpy(other[kept]).int()
    neighbours.weights[where] = torch.from_numpy(weight[kept]).float()


def blend(
    members: Sequence[SequentialRecommender], neighbours: Neighbours | None, ease: Neighbours | None, cases: Cases, seed: int = 0
) -> Ensemble:
    """Make an ensemble of trained recommenders and of tables whose shares are fitted on cases that none of them was trained on.

    Args:
        members: trained.
        neighbours: counted; None for none.
        ease: solved for; None for none.
        cases: of validation.
        seed: of the draw of cases, where not all are needed.
    """
    device = members[0].device
    ensemble = Ensemble([member.eval() for member in members], neighbours, ease).to(device)
    if tables := ensemble.tables:

        def read(score: Scorer, items: Tensor, mask: Tensor) -> Tensor:
            return score(*recent(items, mask, ensemble.max_history))

        parts = [ensemble.mean, *(table.scores for table in tables.values())]
        places = torch.tensor([0, *tables], device=device)
        count = len(next(iter(tables.values())).items)
        blended = Blend.fit([partial(read, part) for part in parts], ensemble.shares.index_select(0, places), cases, count, seed)
        ensemble.shares.index_copy_(0, places, blended.weights)
    return ensemble
