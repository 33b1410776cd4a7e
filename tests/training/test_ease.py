"""EASE against its definition: a ridge regression a column, solved by itself, in which the column is no predictor of its own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from laserrec.data.ragged import Ragged
from laserrec.layers.item_weights import ItemWeights, SparseWeights
from laserrec.layers.neighbours import COUNT
from laserrec.training import ease
from laserrec.training.ease import ease_neighbours, exact, fit_ease, restricted

ITEMS = 7
HISTORIES = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=9), min_size=1, max_size=9)


def took(histories: list[list[int]]) -> NDArray[np.float64]:
    """Return X: who took what, once however often."""
    matrix = np.zeros((len(histories), ITEMS))
    for user, history in enumerate(histories):
        matrix[user, history] = 1
    return matrix


def regressions(histories: list[list[int]], strength: float, top: int = ITEMS) -> NDArray[np.float64]:
    """Return W, column by column: least squares with rows √λ below, from the `top` others that most users took together with it."""
    matrix, weights = took(histories), np.zeros((ITEMS, ITEMS))
    for item in range(ITEMS):
        together = matrix.T @ matrix[:, item]
        others = sorted((other for other in range(ITEMS) if other != item), key=lambda other: (-together[other], other))
        chosen = [other for other in others if top == ITEMS or together[other] > 0][:top]
        if chosen:
            below = np.sqrt(strength) * np.eye(len(chosen))
            wanted = np.concatenate([matrix[:, item], np.zeros(len(chosen))])
            weights[chosen, item] = np.linalg.lstsq(np.vstack([matrix[:, chosen], below]), wanted, rcond=None)[0]
    return weights


@given(HISTORIES, st.sampled_from([0.5, 50.0]), st.sampled_from([2, 1024]))
def test_all_weights_are_those_of_a_regression_a_column(histories: list[list[int]], strength: float, users: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ease, "USERS", users)
        found = exact(Ragged.from_rows(histories), ITEMS, strength).weights
    np.testing.assert_allclose(found.numpy(), regressions(histories, strength), atol=1e-5)


@given(HISTORIES, st.sampled_from([1, 3]), st.sampled_from([1, 2**22]))
def test_restricted_weights_are_those_of_a_regression_on_the_most_frequent_companions(
    histories: list[list[int]], top: int, looked_up: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ease, "LOOKED_UP", looked_up)
        (found,) = restricted(Ragged.from_rows(histories), ITEMS, top, 0.5).factors
    np.testing.assert_allclose(found.to_dense().T.numpy(), regressions(histories, 0.5, top), atol=1e-5)


def test_a_long_catalogue_is_restricted(monkeypatch: pytest.MonkeyPatch) -> None:
    histories = Ragged.from_rows([[0, 1, 2], [1, 2]])
    assert isinstance(fit_ease(histories, 3), ItemWeights)
    monkeypatch.setattr(ease, "EXACT", 2)
    assert isinstance(fit_ease(histories, 3), SparseWeights)


def test_nobody_is_recommended_what_nobody_took_together() -> None:
    items, mask = torch.tensor([[0]]), torch.ones(1, 1, dtype=torch.bool)
    scores = fit_ease(Ragged.from_rows([[0, 1], [0, 1], [2], [3, 2]]), 4).scores(items, mask)
    # One regression by hand: item 1 from 0 alone is 2 / (2 + 50).
    assert scores[0].tolist() == pytest.approx([0, math.asinh(2 / 52 / 0.02), 0, 0], abs=1e-6)


@pytest.mark.parametrize("limit", [ITEMS, 0])
@given(histories=HISTORIES)
def test_the_table_has_the_weights_above_0(limit: int, histories: list[list[int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ease, "EXACT", limit)
        table = ease_neighbours(Ragged.from_rows(histories), ITEMS)
    found = np.zeros((ITEMS, ITEMS))
    np.add.at(found, (np.arange(ITEMS)[:, None], table.items.numpy()), table.weights.numpy())
    weights = regressions(histories, ease.STRENGTH, top=ITEMS if limit else ease.TOP)
    np.testing.assert_allclose(found, np.maximum(weights, 0), atol=1e-5)


def test_the_table_keeps_the_largest() -> None:
    """Item 0 was taken with each other one, with later ones more often."""
    others = COUNT + 3
    table = ease_neighbours(Ragged.from_rows([[0, 1 + other] for other in range(others) for _ in range(1 + other)]), 1 + others)
    assert sorted(table.items[0].tolist()) == list(range(4, 1 + others))
