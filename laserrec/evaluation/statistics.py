"""Compare per-case metrics: bootstrap intervals and paired tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from laserrec.errors import DataError


@dataclass(frozen=True)
class Comparison:
    """How one model does against another on the same cases.

    Attributes:
        difference: first minus second, mean over cases.
        low: lower end of the 95 % interval of the difference (bootstrap over cases).
        high: its upper end.
        p_value: of the two-sided paired randomisation test.
    """

    difference: float
    low: float
    high: float
    p_value: float


def compare(first: NDArray[np.float64], second: NDArray[np.float64], *, draws: int = 2000, seed: int = 0) -> Comparison:
    """Test two models' per-case values, paired.

    Args:
        first: float64 [R].
        second: float64 [R], of the same cases in the same order.
        draws: of the bootstrap and of the randomisation each; no p-value is below 1 / (draws + 1).
        seed: of both.

    Raises:
        DataError: the two are not of equal length, or empty.
    """
    if first.shape != second.shape or not len(first):
        raise DataError(f"Received values of {len(first)} and {len(second)} cases; a paired comparison needs the same cases on both sides.")
    differences = first - second
    mean = float(differences.mean())
    low, high = interval(differences, draws=draws, seed=seed)
    # Flipping the sign of cases without a difference changes nothing, and most cases have none.
    telling = differences[differences != 0]
    generator = np.random.default_rng(seed)
    sums = np.array([generator.choice((-1.0, 1.0), len(telling)) @ telling for _ in range(draws)])
    extreme = int((np.abs(sums) >= abs(telling.sum()) * (1 - 1e-12)).sum())
    return Comparison(mean, low, high, (extreme + 1) / (draws + 1))


def interval(values: NDArray[np.float64], *, draws: int = 2000, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Return the bootstrap interval of the mean of values float64 [R], from the percentiles of `draws` resampled means.

    A metric has few different values. So the number of times each value is drawn is sampled, which is faster than resampling cases.
    """
    different, counts = np.unique(values, return_counts=True)
    means = np.random.default_rng(seed).multinomial(len(values), counts / len(values), draws) @ different / len(values)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
