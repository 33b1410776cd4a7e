"""The arena: what is put stays readable, the longest unused goes, and nobody's rows move under them."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from laserrec.system.devices import CPU
from laserrec.system.resources import available_memory
from laserrec.text_cache.arena import Arena, Slot, release


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


def test_a_gap_of_less_than_half_a_block_stays() -> None:
    mixed = arena(10, [3, 4, 3, 2, 2])
    for block, size in enumerate([3, 4, 3]):
        put(mixed, block, size)
    put(mixed, 3, 2)  # in the place of 0, of which one row is left over
    mixed.used[1] = True
    put(mixed, 4, 2)  # 1 stays where it is, and 2 goes
    assert mixed.first.tolist() == [-1, 3, -1, 0, 7]


def test_what_is_moved_keeps_its_rows_and_what_is_held_is_not_moved() -> None:
    for held in (False, True):
        mixed = arena(10, [2, 4, 4, 3])
        for block, size in enumerate([2, 4, 4]):
            put(mixed, block, size)
        mixed._used[:] = False
        mixed.used[1] = True
        slots = mixed.hold([1]) if held else []
        put(mixed, 3, 3)  # 0 goes; 1 moves up by its two rows, over itself; 2 goes
        assert mixed.first.tolist() == [-1, 2 if held else 0, -1, 6 if held else 4]
        for block, size in ((1, 4), (3, 3)):
            assert mixed.rows[int(mixed.first[block]) :][:size].eq(block).all()
        release(slots)


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
    with small.together([1, 2, 3], 3):
        small.resize(4, 12)
        put(small, 3, 3)
    assert here(small) == [1, 2, 3]


def test_it_grows_to_what_is_needed() -> None:
    large = arena(1000, [600, 600, 100, 600])
    put(large, 0, 600)
    slots = large.hold([0])
    assert len(large.rows) == 1000
    put(large, 2, 100)  # 300 are left
    assert len(large.rows) == 1000
    put(large, 1, 600)  # 600 are held, and 2 makes room
    assert here(large) == [0, 1]
    assert len(large.rows) == 1200
    release(slots)
    put(large, 3, 600)
    assert here(large) == [1, 3]
    assert len(large.rows) == 1200


def test_a_request_s_room_is_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    small, grown, grow = arena(10, [4] * 6), [], Arena._grow
    monkeypatch.setattr(Arena, "_grow", lambda self, rows: (grown.append(rows), grow(self, rows)))
    with small.together(range(5), 20):
        for block in range(5):
            put(small, block, 4)
    assert here(small) == [0, 1, 2, 3, 4]
    assert grown == [20]
    with small.together([5], 4):
        put(small, 5, 4)
    assert grown == [20]


def test_room_to_spare_ends_at_the_limit() -> None:
    kept = arena(125, [30, 30, 30])
    assert len(kept.rows) == 101  # an eighth to spare
    for block in (2, 0, 1):
        put(kept, block, 30)
    kept.forget([2])
    kept.resize(3, 91)
    put(kept, 2, 31)  # neither the 30 in front nor the 11 behind are enough; a quarter to spare were 126
    assert len(kept.rows) == 125
    assert here(kept) == [0, 1, 2]


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
        kept.forget([10])
    assert len(kept.rows) == capacity


def test_rows_that_were_lent_stay_when_not_all_fits_any_more() -> None:
    kept = arena(6, [3, 3])
    put(kept, 0, 3)
    put(kept, 1, 3)
    rows = kept.lend()
    kept.resize(3, 9)
    put(kept, 2, 3)
    assert here(kept) == [1, 2]
    assert rows[:3].eq(0).all()
    assert rows[3:6].eq(1).all()


class Interrupted:
    """Raises at the end of one call among many."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


class Slots(dict[int, Slot]):
    """Blocks' slots, to be set and taken away with interruptions."""

    interrupt: Interrupted

    def __setitem__(self, block: int, slot: Slot) -> None:
        super().__setitem__(block, slot)
        self.interrupt()

    def pop(self, *asked: Any) -> Any:  # noqa: ANN401
        found = super().pop(*asked)
        self.interrupt()
        return found


class Ring(deque[Slot]):
    """A ring that is interrupted before it turns, or before its first goes."""

    interrupt: Interrupted

    def rotate(self, n: int = 1) -> None:
        self.interrupt()
        super().rotate(n)

    def popleft(self) -> Slot:
        self.interrupt()
        return super().popleft()


@pytest.mark.parametrize("sizes", [[2, 4, 4, 4, 3, 2], [4, 4, 2, 1, 3]])
@pytest.mark.parametrize("at", range(1, 9))
@pytest.mark.parametrize("where", ["slots", "ring"])
def test_an_interruption_leaves_nobody_s_rows_to_another(where: str, at: int, sizes: list[int]) -> None:
    kept, interrupt = arena(sum(sizes[:3]) + 1, sizes), Interrupted(at)
    for block in range(3):
        put(kept, block, sizes[block])
    kept._used[:] = False
    kept.used[1] = True
    kept._slots, kept._ring = Slots(kept._slots), Ring(kept._ring)
    kept._slots.interrupt = kept._ring.interrupt = Interrupted(0)
    (kept._slots if where == "slots" else kept._ring).interrupt = interrupt
    for block in [*range(3, len(sizes)), *range(len(sizes))] * 2:
        if kept.first[block] < 0:
            with suppress(KeyboardInterrupt):
                put(kept, block, sizes[block])
        kept.used[:2] = True
        for other in here(kept):
            first = int(kept.first[other])
            assert kept.rows[first : first + sizes[other]].eq(other).all()
    assert interrupt.left <= 0


@given(
    limit=st.integers(8, 40),
    sizes=st.lists(st.integers(1, 8), min_size=2, max_size=12),
    steps=st.lists(st.tuples(st.integers(0, 99), st.sampled_from(["use", "hold", "release", "bring", "forget"])), max_size=60),
)
def test_whatever_is_asked_blocks_keep_their_rows_and_readers_theirs(limit: int, sizes: list[int], steps: list[tuple[int, str]]) -> None:
    kept, held, count = arena(limit, sizes), list[tuple[Slot, Tensor, int]](), len(sizes)
    for number, step in steps:
        block = number % count
        if step in ("use", "hold") and kept.first[block] < 0:
            put(kept, block, sizes[block])
        if step == "bring":
            wanted = sorted({block, (block + 1) % count, (number // 7) % count})
            absent = [each for each in wanted if kept.first[each] < 0]
            with kept.together(wanted, sum(sizes[each] for each in absent)):
                for each in absent:
                    put(kept, each, sizes[each])
            assert all(kept.first[each] >= 0 for each in wanted)
        if step == "hold":
            held += [(slot, kept.rows[slot.start : slot.end], block) for slot in kept.hold([block])]
        if step == "release" and held:
            release([held.pop(number % len(held))[0]])
        if step == "forget":
            kept.forget([block])
        else:
            kept.used[block] = True
        for other in here(kept):
            first = int(kept.first[other])
            assert kept.rows[first : first + sizes[other]].eq(other).all()
        assert all(rows.eq(other).all() for _, rows, other in held)


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


def system(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    5000 kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V2 = {
    "proc/self/cgroup": "0::/shop/job\n",
    "sys/fs/cgroup/shop/job/memory.max": "max\n",
    "sys/fs/cgroup/shop/job/memory.current": "700000\n",
    "sys/fs/cgroup/shop/memory.max": "1000000\n",
    "sys/fs/cgroup/shop/memory.current": "900000\n",
    "sys/fs/cgroup/shop/memory.stat": "anon 100\ninactive_file 300000\nactive_file 70\n",
}
V1 = {
    "proc/self/cgroup": "9:name=systemd:/\n4:memory:/docker/abc\n0::/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000000\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "950000\n",
    "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 200000\n",
}


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, 5000 * 1024),
        (V2, 1_000_000 - 900_000 + 300_000),  # the parent's limit
        (V2 | {"sys/fs/cgroup/shop/job/memory.max": "750000"}, 750_000 - 700_000),
        (V2 | {"sys/fs/cgroup/shop/memory.max": "max"}, 5000 * 1024),
        (V2 | {"sys/fs/cgroup/shop/memory.current": "1400000"}, 0),
        # A container that sees its own group as the root.
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "10", "sys/fs/cgroup/memory.current": "4"}, 6),
        (V1, 1_000_000 - 950_000 + 200_000),  # a path that only the host has
        (
            V1
            | {"sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "9", "sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes": "2"},
            7,
        ),
        (V1 | {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712"}, 5000 * 1024),
    ],
)
def test_memory_of_a_container(tmp_path: Path, files: dict[str, str], free: int) -> None:
    assert available_memory(CPU, system(tmp_path, files)) == free
