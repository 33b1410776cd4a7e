"""Which query expert reads whose history, and whether that depends on what the history is like.

Dependence is measured by normalised mutual information, 2 · I(kind; expert) / (H(kind) + H(expert)): 0 for independence, 1 where one tells
the other. Its p-value is that of a permutation test: the share of random reassignments of experts to users that give at least as much.

Dimensions: R users, E experts, K kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from laserrec.comparison.statistics import holm
from laserrec.data.dataset import Dataset
from laserrec.recommender import Laser
from laserrec.report.population import interval_label

USERS = 10_000
"""Users who are routed at most, evenly spaced among the test cases."""
BATCH = 256
KINDS = 5
PERMUTATIONS = 999


@dataclass(frozen=True)
class Association:
    """Experts against one property of the history.

    Attributes:
        by: the property.
        labels: its kinds, K of them.
        counts: users of each kind whom each expert reads, [K][E].
        information: normalised mutual information.
        chance: its mean over random reassignments.
        p_value: of the permutation test, Holm-corrected over the properties.
    """

    by: str
    labels: Sequence[str]
    counts: Sequence[Sequence[int]]
    information: float
    chance: float
    p_value: float


@dataclass(frozen=True)
class Routing:
    """Who reads whom.

    Attributes:
        users: how many were routed.
        load: how many each expert reads, E of them.
        associations: one a property.
    """

    users: int
    load: Sequence[int]
    associations: Sequence[Association]


def routing(laser: Laser, data: Dataset) -> Routing | None:
    """Route users as they stand before their test event; None where the model has a single expert, or none.

    Args:
        laser: the trained model.
        data: its dataset.
    """
    count = laser.config.mformer.experts
    if count < 2:
        return None
    histories = data.cases("test").histories
    histories = histories.take(np.unique(np.linspace(0, len(histories) - 1, min(USERS, len(histories))).astype(np.int64)))
    experts: list[int] = []
    for start in range(0, len(histories), BATCH):
        rows = histories.take(np.arange(start, min(start + BATCH, len(histories))))
        found = laser.experts([[data.item_ids[item] for item in history] for history in rows])
        if found is None:
            return None
        experts += found
    trained = np.bincount(data.training_histories().values, minlength=len(data.item_ids))
    popularity = np.array([int(np.median(trained[history])) for history in histories])
    chosen = np.array(experts)
    found_by = [
        associate("items in the history", histories.lengths, chosen, count),
        associate("popularity of the items in the history", popularity, chosen, count),
    ]
    corrected = holm([found.p_value for found in found_by])
    associations = [replace(found, p_value=p_value) for found, p_value in zip(found_by, corrected, strict=True)]
    return Routing(len(chosen), np.bincount(chosen, minlength=count).tolist(), associations)


def associate(by: str, values: NDArray[np.int64], experts: NDArray[np.int64], count: int, seed: int = 0) -> Association:
    """Set experts against a property, divided into kinds of about equal size.

    Args:
        by: the property's name.
        values: the property of each user, int64 [R].
        experts: who reads each, int64 [R].
        count: E.
        seed: of the permutations.
    """
    labels, kinds = _kinds(values)
    table = _table(kinds, experts, len(labels), count)
    generator = np.random.default_rng(seed)
    random = np.array(
        [normalised_information(_table(kinds, generator.permutation(experts), len(labels), count)) for _ in range(PERMUTATIONS)]
    )
    information = normalised_information(table)
    # Margins do not change, so equal tables differ in the last bits of their sums only.
    extreme = int((random >= information - 1e-12).sum())
    return Association(by, labels, table.tolist(), information, float(random.mean()), (extreme + 1) / (PERMUTATIONS + 1))


def normalised_information(table: NDArray[np.int64]) -> float:
    """Return the normalised mutual information of rows and columns of counts, int64 [K, E]; 0 where neither varies."""
    joint = table / table.sum()
    row, column = joint.sum(1), joint.sum(0)
    entropies = _entropy(row) + _entropy(column)
    return max(0.0, 2 * (1 - _entropy(joint.ravel()) / entropies)) if entropies else 0.0


def _entropy(shares: NDArray[np.float64]) -> float:
    real = shares[shares > 0]
    return float(-(real * np.log(real)).sum())


def _table(kinds: NDArray[np.int64], experts: NDArray[np.int64], rows: int, columns: int) -> NDArray[np.int64]:
    return np.bincount(kinds * columns + experts, minlength=rows * columns).reshape(rows, columns)


def _kinds(values: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64]]:
    """Divide values, int64 [R], at their quantiles; equal values are of one kind."""
    starts = np.unique(np.quantile(values, np.arange(KINDS) / KINDS, method="inverted_cdf"))
    kinds = np.searchsorted(starts, values, side="right") - 1
    return [interval_label(values[kinds == kind].min(), values[kinds == kind].max()) for kind in range(len(starts))], kinds
