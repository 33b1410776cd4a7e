"""Rearranging histories, against lists."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from laserrec.layers.histories import compact, recent


@st.composite
def masked(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    rows, width = draw(st.integers(1, 4)), draw(st.integers(0, 6))
    cells = rows * width
    items = draw(st.lists(st.integers(0, 20), min_size=cells, max_size=cells))
    mask = draw(st.lists(st.booleans(), min_size=cells, max_size=cells))
    return torch.tensor(items, dtype=torch.int64).view(rows, width), torch.tensor(mask, dtype=torch.bool).view(rows, width)


def rows_of(items: Tensor, mask: Tensor) -> list[list[int]]:
    return [[item for item, real in zip(row, reals, strict=True) if real] for row, reals in zip(items.tolist(), mask.tolist(), strict=True)]


def is_padded_on_the_right(mask: Tensor) -> bool:
    return all(row == sorted(row, reverse=True) for row in mask.tolist())


@given(masked())
def test_compact_keeps_real_items_in_order(case: tuple[Tensor, Tensor]) -> None:
    items, mask = compact(*case)
    assert rows_of(items, mask) == rows_of(*case)
    assert is_padded_on_the_right(mask)
    assert items.shape == case[0].shape


@given(masked(), st.integers(0, 8))
def test_recent_keeps_the_last_real_items(case: tuple[Tensor, Tensor], limit: int) -> None:
    items, mask = recent(*case, limit)
    assert rows_of(items, mask) == [row[max(len(row) - limit, 0) :] for row in rows_of(*case)]
    assert is_padded_on_the_right(mask)
    assert items.shape[1] == min(limit, case[0].shape[1])


def test_by_hand() -> None:
    items = torch.tensor([[4, 9, 5, 6], [7, 9, 9, 9]])
    mask = torch.tensor([[True, False, True, True], [True, False, False, False]])
    kept, real = recent(items, mask, 2)
    assert kept[0].tolist() == [5, 6]
    assert kept[1, 0] == 7
    assert real.tolist() == [[True, True], [True, False]]
