"""A part of a catalogue that stands for the whole in a softmax."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laserrec.training import candidates as module
from laserrec.training.candidates import Candidates


def draw(count: int, needed: list[int], left_out: list[int], seed: int = 0) -> Candidates:
    generator = torch.Generator().manual_seed(seed)
    return Candidates.draw(count, torch.tensor(needed, dtype=torch.int64), torch.tensor(left_out, dtype=torch.int64), generator)


def test_a_short_catalogue_is_taken_whole() -> None:
    found = draw(6, [4, 2, 4, 9], [1])  # 9 is beyond the catalogue
    assert found.items.tolist() == [2, 4, 0, 3, 5]
    assert not found.stands_for.any()
    assert found.find(torch.tensor([[4, 0, 1], [5, 6, 99]])).tolist() == [[1, 2, 5], [4, 5, 5]]


@given(st.integers(1, 60), st.lists(st.integers(0, 70), max_size=8), st.sets(st.integers(0, 59), max_size=8), st.integers(0, 9))
def test_candidates_stand_for_all_that_are_not_left_out(count: int, needed: list[int], left_out: set[int], seed: int) -> None:
    left_out = {item for item in left_out if item < count} - set(needed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "OTHERS", 10)
        found = draw(count, needed, sorted(left_out), seed)
    items, inside = found.items.tolist(), {item for item in needed if item < count}
    assert len(set(items)) == len(items) <= len(inside) + 10
    assert inside <= set(items) <= set(range(count)) - left_out
    stands_for = found.stands_for.exp().tolist()
    assert all(stands_for[items.index(item)] == 1 for item in inside)
    # All in all they stand for everything, if there is anything beside what is needed.
    assert sum(stands_for) == pytest.approx(count - len(left_out), rel=1e-5)
    assert found.find(torch.arange(count)).tolist() == [items.index(item) if item in items else len(items) for item in range(count)]


def test_their_softmax_is_about_that_of_all() -> None:
    logits = torch.randn(200_000, generator=torch.Generator().manual_seed(1)) * 2
    whole = float(logits.logsumexp(0))
    found = [draw(200_000, [7], [], seed) for seed in range(5)]
    parts = [float((logits[each.items] + each.stands_for).logsumexp(0)) for each in found]
    # exp of a normal of deviation 2 varies by √(e⁴ − 1) = 7.3 about its mean, 0.073 in the mean of 10,000.
    assert all(abs(part - whole) < 0.3 for part in parts)
    assert len({tuple(each.items[:50].tolist()) for each in found}) == 5
