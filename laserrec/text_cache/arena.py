"""The arena: encoded texts in memory, in one tensor, up to a limit.

A *block* is one encoded text. It takes rows that stand together, and what is told apart by its number here is looked up by its number
everywhere. While everything fits nothing is ever let go. Beyond the limit, blocks that were not used for longest make room for new ones,
by the clock rule: a hand goes round the rows; a block it meets stays if it was used since the hand last came by, and goes otherwise. The
hand frees rows side by side, so blocks of different sizes never leave the arena in splinters, and a block that stays is moved up where that
closes a gap of half its size or more: smaller gaps are not worth the copying, and left alone would take a seventh of the memory.

Several readers may hold blocks at a time, but one thread at a time calls the arena: whoever shares it locks it. Rows that a reader was
given stay as they are while it holds their blocks. A tensor that the arena has outgrown is never written to again, so its readers need
not know.

Knows nothing of layers, items or files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from laserrec.system.devices import CPU

GONE = -1


@dataclass(slots=True, eq=False)
class Slot:
    """Rows that a block takes.

    Attributes:
        start: first row.
        end: row after the last.
        block: the block's number; `GONE` when it was let go while somebody still read it.
        holders: how many keep it in place.
    """

    start: int
    end: int
    block: int
    holders: int = 0


class Arena:
    """Rows in memory, and which block stands where.

    Attributes:
        rows: [capacity, *row]; what is not taken holds anything.
        limit: rows it may have; more only where a request, beside what is held meanwhile and the gaps between, needs more. It then grows to
            what that needs, and stays so large: the next request is likely to need as much, and to shrink is to copy everything.
        bounded: whether not all blocks fit.
        first: first row of each block, int64 [blocks]; -1 for one that is not here.
        used: whether a block was used since the hand last came by, bool [blocks]; for the reader to set.
    """

    def __init__(self, row: Sequence[int], dtype: torch.dtype, limit: int, device: torch.device = CPU) -> None:
        """Take the shape of a row, the type of its numbers, the limit in rows, and the device; nothing is allocated yet."""
        self.rows = torch.empty(0, *row, dtype=dtype, device=device)
        self.limit, self.bounded = limit, False
        self._ring: deque[Slot] = deque()  # in the order in which the hand will meet them
        self._slots: dict[int, Slot] = {}
        self._together: frozenset[int] = frozenset()
        self._expected = 0  # rows that those of them need that are not here yet
        self._hand = 0
        self._lent = False
        self._count_blocks(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.bool_))

    def _count_blocks(self, first: NDArray[np.int64], used: NDArray[np.bool_]) -> None:
        # One number at a time is read quickly from numpy, many at once are looked up in torch: both see the same memory.
        self._first, self._used = first, used
        self.first, self.used = torch.from_numpy(first), torch.from_numpy(used)

    def resize(self, blocks: int, rows: int) -> None:
        """Note how many numbers of blocks there are now, never fewer than before, and how many rows all blocks would need."""
        self._settle()
        new = blocks - len(self._first)
        if new:
            used = np.concatenate([self._used, np.zeros(new, dtype=np.bool_)])
            self._count_blocks(np.concatenate([self._first, np.full(new, GONE)]), used)
        if rows > self.limit and not self.bounded and self._lent:
            self._grow(len(self.rows))  # those who read without holding keep the rows that they have
        if len(self.rows) < rows and len(self.rows) < self.limit:
            # With some room, so that a new text never copies gigabytes; the system gives memory when it is first written to.
            self._grow(min(self.limit, rows + rows // 8))
        # Once and for all: texts that come and go near the limit would have everything copied each time.
        self.bounded = self.bounded or rows > self.limit

    def lend(self) -> Tensor:
        """Return the rows to somebody who holds no block, which is only allowed while everything fits."""
        assert not self.bounded
        self._lent = True
        return self.rows

    def forget(self, blocks: Iterable[int]) -> None:
        """Let blocks go that nobody reads any more; their numbers may be given to others."""
        self._settle()
        for block in blocks:
            self._let_go(block)
        while self._ring and self._ring[-1].block == GONE and not self._ring[-1].holders:
            self._hand = self._ring.pop().start

    def put(self, block: int, count: int, fill: Callable[[Tensor], bool]) -> bool:
        """Give a block that is not here `count` rows.

        Args:
            block: its number.
            count: rows.
            fill: writes the rows [count, *row]; returns False, or raises, when it cannot, and nothing has changed.
        """
        start = self._find(count)
        slot = Slot(start, start + count, GONE)
        self._hand = slot.end
        self._ring.append(slot)
        if not fill(self.rows[slot.start : slot.end]):
            return False
        slot.block = block
        self._slots[block] = slot
        self._first[block], self._used[block] = slot.start, True
        if block in self._together:
            self._expected -= count
        return True

    def hold(self, blocks: Iterable[int]) -> list[Slot]:
        """Keep blocks, all of them here, where they are until `release`."""
        slots = [self._slots[block] for block in blocks]
        for slot in slots:
            slot.holders += 1
        return slots

    @contextmanager
    def together(self, blocks: Iterable[int], rows: int) -> Iterator[None]:
        """Let none of some blocks go for another one, while they are put.

        Args:
            blocks: their numbers.
            rows: how many those of them need that are not here yet; where there is too little room, it is made for all of them at once.
        """
        self._together, self._expected = frozenset(blocks), rows
        try:
            yield
        finally:
            self._together, self._expected = frozenset(), 0

    def _let_go(self, block: int) -> None:
        self._first[block] = GONE  # first of all: nobody may find rows that are given away
        slot = self._slots.pop(block, None)
        if slot is not None:
            slot.block = GONE

    def _find(self, count: int) -> int:
        """Move the hand to `count` rows that are free or may become so, and return the first; at worst, grow."""
        rounds = 0
        self._settle()
        while True:
            front = self._ring[0] if self._ring and self._ring[0].start >= self._hand else None
            if self._hand + count <= (len(self.rows) if front is None else front.start):
                return self._hand
            if front is None:
                if rounds == (3 if self.bounded else 1):
                    needed = self._hand + max(count, self._expected)
                    self._grow(max(needed, min(len(self.rows) * 5 // 4, self.limit)))
                    return self._hand
                self._hand, rounds = 0, rounds + 1
                continue
            # In this order, and with `_settle`, an interruption loses a block at most and never leaves its rows to another.
            if self._stays(front):
                self._move_up(front)
                self._hand = front.end
                self._ring.rotate(-1)
            else:
                if front.block != GONE:
                    self._let_go(front.block)
                self._ring.popleft()

    def _settle(self) -> None:
        """Finish the step of a hand that has passed a block and was interrupted before that block became the last."""
        if self._ring and self._ring[0].end == self._hand:
            self._ring.rotate(-1)

    def _move_up(self, slot: Slot) -> None:
        """Close the gap between the hand and a block that stays, unless somebody reads it where it is or that is not worth it."""
        gap, size = slot.start - self._hand, slot.end - slot.start
        # In an arena that is not bounded readers may hold nothing, so nothing may move.
        if not self.bounded or slot.holders or 2 * gap < size:
            return
        block, rows = slot.block, self.rows[slot.start : slot.end]
        self._let_go(block)
        self.rows[self._hand : self._hand + size] = rows.clone() if gap < size else rows
        slot.start, slot.end, slot.block = self._hand, self._hand + size, block
        self._slots[block], self._first[block] = slot, slot.start

    def _stays(self, slot: Slot) -> bool:
        if slot.holders or slot.block in self._together:
            return True
        if slot.block == GONE:
            return False
        stays = not self.bounded or bool(self._used[slot.block])
        self._used[slot.block] = False
        return stays

    def _grow(self, capacity: int) -> None:
        taken = max((slot.end for slot in self._ring), default=0)
        rows = self.rows.new_empty(capacity, *self.rows.shape[1:])
        rows[:taken] = self.rows[:taken]
        self.rows = rows


def release(slots: Iterable[Slot]) -> None:
    """Let slots that were held go with the others again."""
    for slot in slots:
        slot.holders -= 1
