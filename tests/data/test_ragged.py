from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from laserrec.data.ragged import Ragged

ROWS = st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=8)


def rows(ragged: Ragged) -> list[list[int]]:
    return [row.tolist() for row in ragged]


@given(ROWS)
def test_rows_come_back(values: list[list[int]]) -> None:
    ragged = Ragged.from_rows(values)
    assert rows(ragged) == values
    assert ragged.lengths.tolist() == [len(row) for row in values]
    assert ragged.values.dtype == ragged.offsets.dtype == np.int64


@given(ROWS.filter(bool), st.data())
def test_take_equals_indexing(values: list[list[int]], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=10))
    assert rows(Ragged.from_rows(values).take(chosen)) == [values[row] for row in chosen]


@given(ROWS, st.integers(0, 7))
def test_tails_equal_slices(values: list[list[int]], limit: int) -> None:
    assert rows(Ragged.from_rows(values).tails(limit)) == [row[len(row) - min(limit, len(row)) :] for row in values]


@given(ROWS, st.integers(0, 7))
def test_what_stands_before_the_last_equals_slices(values: list[list[int]], limit: int) -> None:
    before = [row[:-1] for row in values if len(row) > 1]
    assert rows(Ragged.from_rows(values).before_last(limit)) == [row[len(row) - min(limit, len(row)) :] for row in before]


def test_absent_values() -> None:
    assert Ragged.from_rows([[3, 1], [], [1]]).absent(6).tolist() == [0, 2, 4, 5]
    assert Ragged.from_rows([]).absent(2).tolist() == [0, 1]


def test_padded_on_the_right() -> None:
    values, mask = Ragged.from_rows([[1, 2], [], [3]]).padded(fill=7)
    assert values.tolist() == [[1, 2], [7, 7], [3, 7]]
    assert mask.tolist() == [[True, True], [False, False], [True, False]]
