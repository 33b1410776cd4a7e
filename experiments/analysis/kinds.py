"""Divide histories into kinds: by length, by popularity, by the kind that most of their items have.

Dimensions: N catalogue, R histories, K kinds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from laserrec.data.ragged import Ragged
from laserrec.laser.item_map import OTHER
from laserrec.report.population import interval_label

PARTS = 5
"""Kinds that numbers are divided into, at most."""


@dataclass(frozen=True)
class Kinds:
    """Histories divided by one property.

    Attributes:
        by: the property.
        labels: the kinds, K of them, none without a history.
        rows: the kind of each history, a place in `labels`, int64 [R].
    """

    by: str
    labels: Sequence[str]
    rows: NDArray[np.int64]

    @classmethod
    def of_numbers(cls, by: str, values: NDArray[np.int64]) -> Kinds:
        """Divide by a number, at its quantiles; equal numbers are of one kind.

        Args:
            by: what the number is.
            values: that of each history, int64 [R].
        """
        starts = np.unique(np.quantile(values, np.arange(PARTS) / PARTS, method="inverted_cdf"))
        rows = np.searchsorted(starts, values, side="right") - 1
        parts = [values[rows == kind] for kind in range(len(starts))]
        return cls(by, [interval_label(part.min(), part.max()) for part in parts], rows)

    @classmethod
    def of_items(cls, by: str, histories: Iterable[NDArray[np.int64]], kinds: Sequence[str]) -> Kinds:
        """Divide by the kind that most of a history's items have; of several with as many, the one whose turn came last.

        Items without a kind count together, as `OTHER`. The kind of most histories comes first, `OTHER` last.

        Args:
            by: what the kinds are.
            histories: items, R times int64 [any > 0].
            kinds: of each item, N of them.
        """
        names = sorted(set(kinds))
        places = {name: place for place, name in enumerate(names)}
        items = np.array([places[kind] for kind in kinds], np.int64)
        found = [names[_most(items[history])] for history in histories]
        users = Counter(found)
        labels = sorted(users, key=lambda name: (name == OTHER, -users[name], name))
        return cls(by, labels, np.array([labels.index(name) for name in found], np.int64))


def _most(kinds: NDArray[np.int64]) -> int:
    """Return the most frequent of kinds in order of time, of several the latest one."""
    counts = np.bincount(kinds)
    return int(kinds[counts[kinds] == counts.max()][-1])


def history_kinds(histories: Ragged, popularity: NDArray[np.int64], attribute: str | None, kinds: Sequence[str]) -> list[Kinds]:
    """Divide histories by length, popularity and, where the items have kinds, taste.

    Args:
        histories: items, R rows, none empty.
        popularity: events of train of each item, int64 [N].
        attribute: whose beginnings the items' kinds are; None where they have none.
        kinds: of each item, as `item_kinds` gives them.
    """
    medians = np.array([int(np.median(popularity[history])) for history in histories], np.int64)
    found = [
        Kinds.of_numbers("items in the history", histories.lengths),
        Kinds.of_numbers("popularity of the items in the history", medians),
    ]
    return found if attribute is None else [*found, Kinds.of_items(f"{attribute} of most items in the history", histories, kinds)]
