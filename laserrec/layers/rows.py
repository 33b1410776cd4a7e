"""Tables of a catalogue that changes while it is read: every version stays as it is, and shares the memory of what both hold.

Changed and new entries are written behind all others, where no version that is in use looks. What nobody reads any more is dropped once it
is a quarter of the table, so a change costs its own rows and, seldom, a copy.

Dimensions: N rows of a version, P rows that are stored, H width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from laserrec.layers.products import products

SPARE = 0.25
"""Share of a table that is kept free for what comes, and that may be out of use."""


class Column:
    """The first entries of a memory that later versions go on filling.

    Attributes:
        seen: the entries, [n, ...]; a view, which nobody writes to.
    """

    def __init__(self, memory: Tensor, filled: list[int], count: int) -> None:
        """See the first `count` entries of a memory; `filled`, which all its versions share, holds how many are written."""
        self._memory, self._filled, self.seen = memory, filled, memory[:count]

    @classmethod
    def of(cls, table: Tensor) -> Column:
        """See all of a table."""
        return cls(table, [len(table)], len(table))

    def __len__(self) -> int:
        return len(self.seen)

    def followed_by(self, values: Tensor) -> Column:
        """Return a column with further entries, [m, ...], behind these. One thread at a time may call it of the versions of one memory."""
        count, end = len(self), len(self) + len(values)
        if self._filled[0] != count or end > len(self._memory):  # another version has gone on from here, or the memory is full
            return self.with_room(len(values)).followed_by(values)
        self._memory[count:end] = values
        self._filled[0] = end
        return Column(self._memory, self._filled, end)

    def with_room(self, more: int = 0) -> Column:
        """Return a copy in a separate memory, which has room for `more` entries and a share beyond."""
        count = len(self)
        memory = self._memory.new_empty(count + more + int(SPARE * count), *self._memory.shape[1:])
        memory[:count] = self.seen
        return Column(memory, [count], count)


def moved(place: Tensor | None, stored: int, rows: Tensor, count: int) -> Tensor | None:
    """Return where the rows of the next version are stored, int64 [count]; None where each is at its own index.

    Args:
        place: where those of this version are; None likewise.
        stored: P, behind which the new and changed ones are written in turn.
        rows: which rows of the next version these are, int64 [n]; all that this version does not have are among them.
        count: rows of the next version.
    """
    known = stored if place is None else len(place)
    if place is None and known + len(rows) == count and bool((rows == torch.arange(known, count, device=rows.device)).all()):
        return None
    now = torch.arange(known, device=rows.device) if place is None else place
    return torch.cat([now, now.new_empty(count - known)]).index_copy_(0, rows, torch.arange(stored, stored + len(rows), device=rows.device))


class Rows:
    """A table [N, H] of one version of a catalogue."""

    def __init__(self, column: Column, place: Tensor | None = None) -> None:
        """Find row n at `place[n]` of a column; at n when None."""
        self._column, self._place = column, place

    @classmethod
    def of(cls, table: Tensor) -> Rows:
        """Hold a table [N, H], which is not copied."""
        return cls(Column.of(table))

    def __len__(self) -> int:
        return len(self._column if self._place is None else self._place)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        """Return some rows, by indices or a mask."""
        return self._column.seen[rows if self._place is None else self._place[rows]]

    @property
    def table(self) -> Tensor:
        """All rows, [N, H]; a copy once one has changed."""
        return self._column.seen if self._place is None else self._column.seen[self._place]

    def times(self, vectors: Tensor) -> Tensor:
        """Return the products of vectors [B, H] with all rows, [B, N], without gradients."""
        found = products(vectors, self._column.seen)
        return found if self._place is None else found.index_select(1, self._place)

    def with_rows(self, rows: Tensor, values: Tensor, count: int) -> Rows:
        """Return a table of `count` rows, of which new and changed ones, int64 [n], have values [n, H]."""
        if len(self._column) > (1 + SPARE) * len(self):
            return Rows.of(self.table).with_rows(rows, values, count)
        return Rows(self._column.followed_by(values), moved(self._place, len(self._column), rows, count))

    def with_room(self) -> Rows:
        """Return the table in a memory that has room for more rows."""
        return Rows(self._column.with_room(), self._place)

    def take(self, order: Tensor) -> Rows:
        """Return those of the rows that `order` names, int64 [n]."""
        return Rows(self._column, order if self._place is None else self._place[order])


def spans(first: Tensor, counts: Tensor) -> Tensor:
    """Return the places of entries that lie one after the other: `counts` of them from each of `first`, int64 [n]."""
    ends = counts.cumsum(0)
    return torch.arange(int(counts.sum()), device=counts.device) + (first - ends + counts).repeat_interleave(counts)
