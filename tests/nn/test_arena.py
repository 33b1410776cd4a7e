"""The arena: what is put stays readable, the longest unused goes, and nobody's rows move under them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from laserrec.nn.arena import Arena, available_memory, release


def arena(limit: int, sizes: list[int]) -> Arena:
    built = Arena((2,), torch.float32, limit)
    built.resize(len(sizes), sum(sizes))
    return built


def put(into: Arena, block: int, size: int) -> None:
    def fill(rows: Tensor) -> bool:
        rows.fill_(block)
        return True

    assert into.put(block, size, fill)


def here(of: Arena) -> list[int]:
    return [block for block, first in enumerate(of.first.tolist()) if first >= 0]


def test_everything_stays_while_it_fits() -> None:
    kept = arena(100, [3, 4, 5])
    for block, size in ((2, 5), (0, 3), (1, 4)):
        put(kept, block, size)
    assert kept.first.tolist() == [5, 8, 0]
    assert kept.rows[8:12].eq(1).all()
    assert not kept.bounded


def test_the_longest_unused_goes() -> None:
    small = arena(9, [3] * 5)
    for block in (0, 1, 2):
        put(small, block, 3)
    put(small, 3, 3)  # all were used since the hand last came by, so the first it met goes
    assert here(small) == [1, 2, 3]
    small.used[1] = True  # since then
    put(small, 4, 3)
    assert here(small) == [1, 3, 4]
    assert len(small.rows) == 9


def test_two_small_ones_make_room_for_a_large_one() -> None:
    small = arena(8, [2, 2, 2, 2, 4])
    for block in range(4):
        put(small, block, 2)
    put(small, 4, 4)
    assert here(small) == [2, 3, 4]


def test_what_is_held_stays_and_a_need_beyond_the_limit_is_met() -> None:
    small = arena(6, [3, 3, 3])
    put(small, 0, 3)
    put(small, 1, 3)
    rows, slots = small.rows, small.hold([0, 1])
    put(small, 2, 3)
    assert here(small) == [0, 1, 2]
    assert rows[:3].eq(0).all()
    assert small.rows[:6].equal(rows[:6])
    release(slots)
    with small.together([1, 2]):
        small.resize(4, 12)
        put(small, 3, 3)
    assert here(small) == [1, 2, 3]


def test_a_fill_that_fails_changes_nothing() -> None:
    kept = arena(6, [3, 3])
    put(kept, 0, 3)
    assert not kept.put(1, 3, lambda _: False)

    def stop(_: Tensor) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept.put(1, 3, stop)
    assert here(kept) == [0]
    put(kept, 1, 3)
    assert here(kept) == [0, 1]
    assert kept.rows[kept.first[1] :][:3].eq(1).all()


def test_the_room_of_the_last_is_used_again() -> None:
    kept = arena(1000, [3] * 10)
    for block in range(10):
        put(kept, block, 3)
    capacity = len(kept.rows)
    for _ in range(50):
        kept.resize(11, 33)
        put(kept, 10, 3)
        assert int(kept.first[10]) == 30
        kept.resize(10, 30)
    assert len(kept.rows) == capacity


@given(
    limit=st.integers(8, 40), sizes=st.lists(st.integers(1, 8), min_size=1, max_size=12), picks=st.lists(st.integers(0, 99), max_size=60)
)
def test_every_block_here_holds_its_own(limit: int, sizes: list[int], picks: list[int]) -> None:
    kept = arena(limit, sizes)
    for pick in picks:
        block = pick % len(sizes)
        if kept.first[block] < 0:
            put(kept, block, sizes[block])
        kept.used[block] = True
        assert kept.first[block] >= 0
        for other in here(kept):
            first = int(kept.first[other])
            assert kept.rows[first : first + sizes[other]].eq(other).all()
    if kept.bounded:
        assert len(kept.rows) == limit
    else:
        assert here(kept) == sorted({pick % len(sizes) for pick in picks})


def test_memory_is_a_plausible_number_of_bytes() -> None:
    assert 2**20 < available_memory() < 2**50
