"""What is searched: for each model a few settings, and where each of them may lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from laserrec.baselines.sequential import SequentialBaseline

Value = float | int


@dataclass(frozen=True)
class Between:
    """A number on a logarithmic scale."""

    low: float
    high: float

    def including(self, value: Value) -> Between:
        """Return the interval, widened where the value lies outside."""
        return Between(min(self.low, value), max(self.high, value))


@dataclass(frozen=True)
class OneOf:
    """One of a few values."""

    values: Sequence[Value]

    def including(self, value: Value) -> OneOf:
        """Return the choice with the value among them."""
        return OneOf(sorted({*self.values, value}))


Space = Mapping[str, Between | OneOf]
"""By the setting's name, `section.key`."""

LASER: Space = {
    "stage1.learning_rate": Between(1e-4, 1e-3),
    "stage1.weight_decay": OneOf((0.0, 0.01, 0.1)),
    "virtual.prefix_length": OneOf((2, 4, 8)),
    "mformer.experts": OneOf((1, 2, 4, 8)),
    "mformer.width": OneOf((64, 128, 256)),
    "mformer.drop_state": OneOf((0.0, 0.1, 0.3)),
}
IDS: Space = {
    "fit_collaborative.learning_rate": Between(3e-4, 5e-3),
    "fit_collaborative.weight_decay": OneOf((0.0, 0.01, 0.1)),
    "collaborative.width": OneOf((32, 64, 128)),
    "collaborative.blocks": OneOf((1, 2, 3)),
    "collaborative.dropout": OneOf((0.1, 0.3, 0.5)),
}


def space_of(baseline: SequentialBaseline | None) -> Space:
    """Return what is searched for a baseline, or for Laser where there is none; sizes that make it another model are not."""
    return LASER if baseline is None else IDS
