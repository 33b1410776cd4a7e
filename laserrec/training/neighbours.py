"""Items that were taken together: neighbours counted from training histories, and blended into an ensemble.

Counting is the oldest recommender there is, and it errs otherwise than networks do (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from laserrec.data.dataset import Cases
from laserrec.data.ragged import Ragged
from laserrec.nn.ensemble import Ensemble
from laserrec.nn.histories import recent
from laserrec.nn.neighbours import COUNT, Neighbours
from laserrec.nn.sequential import SequentialRecommender
from laserrec.training.calibrate import BATCH, cases_held, minimise
from laserrec.training.stages import padded

FLOOR = 0.02
"""Nearness that is as good as none; two items that were taken together once have about 0.1 where each was taken a few times."""
REACH = 7
"""Events that two items may lie apart."""
FORWARD, BACKWARD, FADING = 1000, 500, 0.8
"""A pair weighs most where the second item came right after the first. In whole thousandths, so that sums do not depend on their order."""
SHRINKAGE = 10
"""Events added to each item's own, so that a pair of items that were taken once each does not outweigh well-known ones."""


def count_neighbours(histories: Ragged, catalogue_size: int) -> Neighbours:
    """Count neighbours: w(i, j) = pairs(i, j) / √((events(i) + s) (events(j) + s)), pairs weighed by their distance and order.

    Args:
        histories: training histories.
        catalogue_size: N.
    """
    pairs = pl.DataFrame(schema={"item": pl.Int64, "other": pl.Int64, "weight": pl.Int64})
    rows = np.repeat(np.arange(len(histories)), histories.lengths)
    for apart in range(1, REACH + 1):
        inside = rows[:-apart] == rows[apart:]
        first, second = histories.values[:-apart][inside], histories.values[apart:][inside]
        fading = FADING ** (apart - 1)
        found = [
            pl.DataFrame({"item": item, "other": other, "weight": np.full(len(item), round(weight * fading))})
            for item, other, weight in ((first, second, FORWARD), (second, first, BACKWARD))
        ]
        # Distance by distance: pairs that come again are added up before the next are made. Distinct ones are all held, 150 bytes each.
        pairs = pl.concat([pairs, *found]).group_by("item", "other").agg(pl.col("weight").sum())
    events = np.bincount(histories.values, minlength=catalogue_size)
    return _table(pairs.filter(pl.col("item") != pl.col("other")), events)


def _table(pairs: pl.DataFrame, events: NDArray[np.int64]) -> Neighbours:
    """Keep the nearest of each item; of equal ones those with the lower index."""
    item, other = pairs["item"].to_numpy(), pairs["other"].to_numpy()
    weight = pairs["weight"].to_numpy() / FORWARD / np.sqrt((events[item] + SHRINKAGE) * (events[other] + SHRINKAGE))
    order = np.lexsort((other, -weight, item))
    item, other, weight = item[order], other[order], weight[order]
    place = np.arange(len(item)) - np.searchsorted(item, item)
    kept = place < COUNT
    neighbours = Neighbours(len(events), FLOOR)
    where = torch.from_numpy(item[kept]), torch.from_numpy(place[kept])
    neighbours.items[where] = torch.from_numpy(other[kept]).int()
    neighbours.weights[where] = torch.from_numpy(weight[kept]).float()
    return neighbours


def blend(members: Sequence[SequentialRecommender], neighbours: Neighbours | None, cases: Cases) -> Ensemble:
    """Make an ensemble of trained recommenders, and of neighbours with a share that is fitted on cases nobody was trained on.

    Args:
        members: trained.
        neighbours: counted; None for none.
        cases: of validation.
    """
    device = members[0].device
    ensemble = Ensemble([member.eval() for member in members], neighbours).to(device)
    if neighbours is None or not len(cases):
        return ensemble
    fitted = cases.take(np.arange(min(len(cases), cases_held(neighbours.items.shape[0]))))
    items, mask = recent(*padded(fitted.histories, device), ensemble.max_history)
    with torch.no_grad():
        batches = zip(items.split(BATCH), mask.split(BATCH), strict=True)
        parts = [(ensemble.mean(*batch), neighbours.scores(*batch)) for batch in batches]
    targets = torch.from_numpy(fitted.targets).to(device).split(BATCH)
    shares = ensemble.shares.clone().requires_grad_()

    def loss() -> Tensor:
        losses = [
            cross_entropy(shares[0] * mean + shares[1] * near, following, reduction="sum")
            for (mean, near), following in zip(parts, targets, strict=True)
        ]
        return torch.stack(losses).sum() / len(items)

    minimise(loss, [shares])
    found = shares.detach().clamp(min=0)
    if found.any():  # else nothing is known, and the members' mean is as good as any
        ensemble.shares.copy_(found)
    return ensemble
