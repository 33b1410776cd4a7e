"""Describe the data of a run: counts, lengths of histories and popularity of items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from laserrec.data.dataset import Dataset
from laserrec.data.inspection import Inspection, inspect

STEPS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70)
"""First values of the bars below 100. Those from 10 on repeat with each power of ten, so that bars look even on a logarithmic scale."""


@dataclass(frozen=True)
class Histogram:
    """Numbers of users or items by their count of events.

    Attributes:
        labels: the counts of each bar, "3–4".
        sizes: how many things have them.
    """

    labels: Sequence[str]
    sizes: Sequence[int]

    @classmethod
    def of(cls, counts: NDArray[np.int64]) -> Histogram:
        """Divide counts, int64 [any] ≥ 0, into bars that begin at `STEPS`; empty bars before the first and after the last are left out."""
        edges = [0, *STEPS]
        while edges[-1] <= counts.max(initial=0):
            edges += [10 * edge for edge in edges[-6:]]
        sizes = np.histogram(counts, edges)[0].tolist()
        labels = [interval_label(start, end - 1) for start, end in pairwise(edges)]
        filled = np.flatnonzero(sizes)
        shown = slice(filled[0], filled[-1] + 1) if len(filled) else slice(0)
        return cls(labels[shown], sizes[shown])


@dataclass(frozen=True)
class Population:
    """The data of a run.

    Attributes:
        inspection: its numbers.
        lengths: users by the events they have.
        popularity: items by the events of train they have.
    """

    inspection: Inspection
    lengths: Histogram
    popularity: Histogram


def population(data: Dataset) -> Population:
    """Describe a dataset."""
    trained = np.bincount(data.training_histories().values, minlength=len(data.item_ids))
    return Population(inspect(data), Histogram.of(data.histories().lengths), Histogram.of(trained))


def interval_label(first: int, last: int) -> str:
    """Return the label of the whole numbers from `first` to `last`, such as "3–4"."""
    return f"{first:,}" if first == last else f"{first:,}–{last:,}"
