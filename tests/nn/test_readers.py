"""Which prompts attend together."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from laserrec.nn.readers import alike


def test_by_hand() -> None:
    """Of 100 tokens at most 125 stand beside it; of the four alike no more than three."""
    groups = alike(torch.tensor([400, 126, 100, 125, 110, 120, 500]), 3)
    assert [group.tolist() for group in groups] == [[2, 4, 5], [3, 1], [0, 6]]


@given(st.lists(st.integers(1, 900), min_size=1, max_size=80), st.integers(1, 20))
def test_every_row_once_and_little_padding(lengths: list[int], most: int) -> None:
    groups = [group.tolist() for group in alike(torch.tensor(lengths), most)]
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    assert all(len(group) <= most for group in groups)
    assert all(4 * lengths[group[-1]] <= 5 * lengths[group[0]] for group in groups)
    padded = sum(len(group) * lengths[group[-1]] for group in groups)
    assert 4 * padded <= 5 * sum(lengths)
