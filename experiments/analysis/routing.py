"""Measure which query expert reads whose history, and whether that depends on properties of the history.

Dependence is measured by normalised mutual information, 2 · I(kind; expert) / (H(kind) + H(expert)): 0 for independence, 1 where
one determines the other. Its p-value is that of a permutation test: the share of random reassignments of experts to users that give at
least as much.

Dimensions: R users, E experts, K kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from analysis.kinds import Kinds, history_kinds
from numpy.typing import NDArray

from laserrec.comparison.statistics import holm
from laserrec.data.dataset import Dataset
from laserrec.laser.item_map import item_kinds
from laserrec.recommender import Laser

USERS = 10_000
"""Users who are routed at most, evenly spaced among the test cases."""
BATCH = 256
"""Users who are routed at a time."""
PERMUTATIONS = 999
"""Reassignments: with the real one a thousand, so the smallest p-value is .001."""


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
        attribute: of the items, whose beginnings are the kinds of taste; None where none divides them well.
        associations: one a property.
    """

    users: int
    load: Sequence[int]
    attribute: str | None
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
    attribute, kinds = next(iter(item_kinds(data.attributes()).items()), (None, []))
    chosen = np.array(experts)
    found_by = [associate(each, chosen, count) for each in history_kinds(histories, trained, attribute, kinds)]
    corrected = holm([found.p_value for found in found_by])
    associations = [replace(found, p_value=p_value) for found, p_value in zip(found_by, corrected, strict=True)]
    return Routing(len(chosen), np.bincount(chosen, minlength=count).tolist(), attribute, associations)


def associate(kinds: Kinds, experts: NDArray[np.int64], count: int, seed: int = 0) -> Association:
    """Set experts against a property.

    Args:
        kinds: the property, of R users.
        experts: who reads each, int64 [R].
        count: E.
        seed: of the permutations.
    """

    def table(readers: NDArray[np.int64]) -> NDArray[np.int64]:
        rows = len(kinds.labels)
        return np.bincount(kinds.rows * count + readers, minlength=rows * count).reshape(rows, count)

    generator = np.random.default_rng(seed)
    counts = table(experts)
    random = np.array([normalised_information(table(generator.permutation(experts))) for _ in range(PERMUTATIONS)])
    information = normalised_information(counts)
    # Margins do not change, so equal tables differ in the last bits of their sums only.
    p_value = (int((random >= information - 1e-12).sum()) + 1) / (PERMUTATIONS + 1)
    return Association(kinds.by, kinds.labels, counts.tolist(), information, float(random.mean()), p_value)


def normalised_information(table: NDArray[np.int64]) -> float:
    """Return the normalised mutual information of rows and columns of counts, int64 [K, E]; 0 where neither varies."""
    joint = table / table.sum()
    row, column = joint.sum(1), joint.sum(0)
    entropies = _entropy(row) + _entropy(column)
    return max(0.0, 2 * (1 - _entropy(joint.ravel()) / entropies)) if entropies else 0.0


def _entropy(shares: NDArray[np.float64]) -> float:
    real = shares[shares > 0]
    return float(-(real * np.log(real)).sum())
