"""A blend's weights against a search of all of them on a grid."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from laserrec.data.dataset import Cases
from laserrec.data.ragged import Ragged
from laserrec.evaluation.metrics import Scorer
from laserrec.training.blending import Blend

ITEMS, USERS = 6, 40
RNG = np.random.default_rng(3)
FIRST, SECOND = (torch.from_numpy(RNG.standard_normal((ITEMS, ITEMS))).float() for _ in range(2))


def by_last(table: Tensor) -> Scorer:
    """Score by a row of a table, that of the last item."""
    return lambda items, mask: table[items.gather(1, mask.sum(1, keepdim=True) - 1)[:, 0]]


@pytest.fixture
def cases() -> Cases:
    """Histories whose next items follow 1.5 times the first table and half the second."""
    last = RNG.integers(0, ITEMS, USERS)
    odds = np.exp((1.5 * FIRST + 0.5 * SECOND).numpy()[last])
    targets = np.array([RNG.choice(ITEMS, p=row / row.sum()) for row in odds])
    return Cases(np.arange(USERS), Ragged.from_rows([[0, item] for item in last]), targets)


def loss(cases: Cases, weights: tuple[float, ...]) -> float:
    last = cases.histories.values[1::2]
    logits = (weights[0] * FIRST + weights[1] * SECOND).numpy()[last]
    return float(np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(USERS), cases.targets]))


def test_weights_are_the_likeliest(cases: Cases) -> None:
    blend = Blend.fit([by_last(FIRST), by_last(SECOND)], torch.ones(2), cases, ITEMS, 0)
    grid = np.arange(0, 4, 0.05)
    best = min(itertools.product(grid, grid), key=lambda weights: loss(cases, weights))
    assert blend.weights.tolist() == pytest.approx(best, abs=0.05)
    assert 0.3 < best[0] < 3.5  # a minimum inside the grid
    items, mask = torch.tensor([[2, 4]]), torch.ones(1, 2, dtype=torch.bool)
    torch.testing.assert_close(blend.scores(items, mask)[0], blend.weights[0] * FIRST[4] + blend.weights[1] * SECOND[4])


def test_a_part_that_misleads_weighs_nothing(cases: Cases) -> None:
    blend = Blend.fit([by_last(FIRST), by_last(-FIRST)], torch.ones(2), cases, ITEMS, 0)
    assert (blend.weights >= 0).all()
    wrong = Blend.fit([by_last(-FIRST)], torch.full((1,), 2.0), cases, ITEMS, 0)
    assert wrong.weights.tolist() == [2]  # the start, for nothing else is known


def test_without_cases_the_start_is_kept() -> None:
    none = Cases(np.arange(0), Ragged.from_rows([]), np.arange(0))
    assert Blend.fit([by_last(FIRST)], torch.ones(1), none, ITEMS, 0).weights.tolist() == [1]
