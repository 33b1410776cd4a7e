"""Divide cases by length of the history, by training events of the target and by the length of its text.

Dimensions: R cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from laserrec.comparison.entries import Entry
from laserrec.data.dataset import Dataset
from laserrec.evaluation.metrics import Protocol

# First values of each slice; steps grow, since the counts are skewed.
LENGTHS = (1, 3, 5, 10, 20, 50, 100, 200)
POPULARITIES = (0, 1, 5, 20, 50)
WORDS = (0, 5, 10, 20, 40)


@dataclass(frozen=True)
class Slice:
    """One kind of cases and how the models do on it.

    Attributes:
        by: what divides the cases.
        label: which of them.
        cases: how many there are.
        values: each model's mean, by its name.
    """

    by: str
    label: str
    cases: int
    values: Mapping[str, float]


def slices(entries: Sequence[Entry], data: Dataset, metric: str, protocol: Protocol) -> list[Slice]:
    """Return each model's mean on each kind of case; kinds without a case are left out.

    Args:
        entries: the models.
        data: the dataset that they were evaluated on.
        metric: as `laserrec.evaluation.metrics.per_case` takes it.
        protocol: of the ranking.
    """
    cases = entries[0].evaluations[0]
    popularity = np.bincount(data.training_histories().values, minlength=len(data.item_ids))
    words = np.array([sum(len(text.split()) for text in item.values()) for item in data.attributes()])
    values = {entry.name: entry.per_case(metric, protocol) for entry in entries}
    found = []
    for by, measured, edges in (
        ("items in the history", cases.lengths, LENGTHS),
        ("training events of the target", popularity[cases.targets], POPULARITIES),
        ("words of the target's text", words[cases.targets], WORDS),
    ):
        for label, inside in _parts(measured, edges):
            if inside.any():
                means = {name: float(each[inside].mean()) for name, each in values.items()}
                found.append(Slice(by, label, int(inside.sum()), means))
    return found


def _parts(measured: NDArray[np.int64], edges: Sequence[int]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Divide int64 [R] at ascending edges, each the first value of its part; the first part begins at the first edge."""
    ends = [*edges[1:], None]
    parts = []
    for start, end in zip(edges, ends, strict=True):
        label = f"{start}+" if end is None else f"{start}" if end == start + 1 else f"{start}–{end - 1}"
        parts.append((label, (measured >= start) & (True if end is None else measured < end)))
    return parts
