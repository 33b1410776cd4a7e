"""Which prompts attend together."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from laserrec.laser.prefix_first import alike


def test_by_hand() -> None:
    """Of 100 tokens at most 125 stand beside it; of the four alike no more than three."""
    assert alike([100, 110, 120, 125, 126, 400, 500, 501], 3) == [3, 2, 2, 1]
    assert alike([], 3) == []


@given(st.lists(st.integers(0, 900), max_size=80), st.integers(1, 20))
def test_groups_are_as_large_as_they_may_be(lengths: list[int], most: int) -> None:
    lengths.sort()
    groups, rest = [], lengths
    for size in alike(lengths, most):
        groups.append(rest[:size])
        rest = rest[size:]
    assert not rest
    assert all(0 < len(group) <= most and 4 * group[-1] <= 5 * group[0] for group in groups)
    assert all(len(before) == most or 4 * after[0] > 5 * before[0] for before, after in pairwise(groups))
