"""Neighbours of a catalogue that changes while it is read: versions of a table that share what stays (`rows`).

A neighbour is stored under the number of its present form. An item that changes gets another number, and one that is removed loses its
own, so they are forgotten in all rows at once: what is stored under an old number reaches nobody.

Dimensions: B batch, S history, N catalogue, K neighbours, P rows that are stored.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from laserrec.layers.neighbours import COUNT, Neighbours, beside, fading, found_at_once, weights_of, without_own
from laserrec.layers.rows import SPARE, Column, spans

FEW = 8
"""Numbers that are sought one by one among all names."""


class LivingNeighbours:
    """One version of a table of neighbours, which never changes.

    Attributes:
        floor: nearness that counts as none.
        numbers: how many numbers are given.
    """

    def __init__(self, table: Neighbours) -> None:
        """Hold a table; it is not copied, and changes no more."""
        count, width = table.items.shape
        self.floor, self.numbers, device = table.floor, count, table.items.device
        self._names, self._weights = Column.of(table.items.reshape(-1)), Column.of(table.weights.reshape(-1))
        self._starts = Column.of(torch.arange(count + 1, device=device) * width)  # of each stored row, and where the last one ends
        self._owner = Column.of(torch.arange(count, device=device))  # number of the item whose row it is
        self._row = self._number = torch.arange(count, device=device)  # of each item: which stored row is its own, and its number
        self._farthest = _kth(table.weights)  # weight that a new neighbour must reach
        self._empty: tuple[int, int] | None = None  # stored row and number of all who are removed, once there is one

    def __len__(self) -> int:
        return len(self._row)

    @property
    def device(self) -> torch.device:
        """Where the table lies."""
        return self._row.device

    @property
    def items(self) -> Tensor:
        """As `Neighbours.items`."""
        return self.table()[0]

    @property
    def weights(self) -> Tensor:
        """As `Neighbours.weights`."""
        return self.table()[1]

    def table(self) -> tuple[Tensor, Tensor]:
        """Return the neighbours of all items, int32 [N, K or more], and their weights, as wide."""
        item, (names, weights) = self._item_of(), self._padded(torch.arange(len(self), device=self.device))
        found, short = item[names.long()], (0, max(COUNT - names.shape[1], 0))
        return pad(found.clamp(min=0).int(), short), pad(weights.masked_fill(found < 0, 0.0), short)

    def scores(self, items: Tensor, mask: Tensor) -> Tensor:
        """Score every item after histories, as `Neighbours.scores` does."""
        mask = mask & (items < len(self))
        last, shares = fading(torch.where(mask, items, 0), mask)
        names, weights = self._padded(last.flatten())
        near = (weights.unflatten(0, last.shape) * shares[..., None]).flatten(1)
        scores = near.new_zeros(len(items), self.numbers).scatter_add_(1, names.unflatten(0, last.shape).long().flatten(1), near)
        if self.numbers > len(self):  # some number is out of use; otherwise each is its item's index
            scores = scores.index_select(1, self._number)
        return without_own(scores, items, mask).div_(self.floor).log1p_()

    @torch.no_grad()
    def placed(self, cosines: Callable[[Tensor], Tensor], rows: Tensor, live: Tensor) -> LivingNeighbours:
        """Return a table in which some items, new or changed ones, have found their places; nobody else's nearness to anybody changes.

        Such an item gets its nearest others, and becomes a neighbour of all in whose K nearest it would be. There it stands beside those
        that are there already, so a row may grow longer than K.

        Args:
            cosines: gives those of some items, int64 [n], with all N.
            rows: the new and changed items, int64 [n].
            live: False for items that are nobody's neighbours, bool [N].
        """
        after, known, count = copy(self._folded()), len(self), len(live)
        old = after._number[rows[rows < known]]
        # `pad` returns copies, also where nothing is added.
        after._row, after._number, after._farthest = (
            pad(part, (0, count - known)) for part in (after._row, after._number, after._farthest)
        )
        after._number[rows] = torch.arange(after.numbers, after.numbers + len(rows), device=self.device)
        after.numbers += len(rows)
        after._forget(old, live)
        others = live.index_fill(0, rows, value=False)
        used = after._used(live)
        for part in rows.split(found_at_once(count)) if len(rows) else ():
            found = cosines(part)
            near = weights_of(found.T)
            top = found.masked_fill(~live, -torch.inf).scatter_(1, part[:, None], -torch.inf).topk(min(COUNT, count), dim=1)
            after._write(part, after._number[top.indices].int(), weights_of(top.values))
            reached = (others & (near.amax(1) >= after._farthest)).nonzero()[:, 0]
            if len(reached):
                names, weights = after._padded(reached)
                weights = pad(weights.masked_fill(~used[names.long()], 0.0), (0, max(COUNT - weights.shape[1], 0)))
                names = pad(names, (0, weights.shape[1] - names.shape[1]))
                after._write(reached, *beside(names, weights, after._number[part], near[reached]))
        return after

    @torch.no_grad()
    def take(self, order: Tensor, live: Tensor) -> LivingNeighbours:
        """Return the table of those of the items that `order` names, int64 [n], in which only live ones, bool [n], are near to anybody."""
        after, before = copy(self), self._used(torch.ones(len(self), dtype=torch.bool, device=self.device))
        after._row, after._number, after._farthest = self._row[order], self._number[order], self._farthest[order].clone()
        if not bool(live.all()):
            if after._empty is None:
                after._empty, after.numbers = (len(self._owner), self.numbers), self.numbers + 1
                after._starts = self._starts.followed_by(self._starts.seen[-1:])
                after._owner = self._owner.followed_by(torch.tensor([self.numbers], device=self.device))
            after._row[~live], after._number[~live] = after._empty
        after._forget((before & ~after._used(live)[: self.numbers]).nonzero()[:, 0], live)
        return after

    def _used(self, live: Tensor) -> Tensor:
        """Return which numbers live items have, bool [numbers]."""
        return torch.zeros(self.numbers, dtype=torch.bool, device=self.device).index_fill_(0, self._number[live], value=True)

    def _item_of(self) -> Tensor:
        """Return which item has each number, int64 [numbers]; -1 where none has."""
        every = torch.arange(len(self), device=self.device)
        return self._row.new_full((self.numbers,), -1).index_copy_(0, self._number, every)

    def _padded(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return the names and weights of some items' neighbours, [n, W], filled up with weights of 0."""
        first, counts = self._span(items)
        if not bool(counts.any()):
            return items.new_zeros(len(items), 1, dtype=torch.int32), self._weights.seen.new_zeros(len(items), 1)
        place = torch.arange(int(counts.max()), device=self.device)
        real = place < counts[:, None]
        index = torch.where(real, first[:, None] + place, 0)
        return self._names.seen[index], torch.where(real, self._weights.seen[index], 0.0)

    def _span(self, items: Tensor) -> tuple[Tensor, Tensor]:
        row = self._row[items]
        first = self._starts.seen[row]
        return first, self._starts.seen[row + 1] - first

    def _forget(self, gone: Tensor, live: Tensor) -> None:
        """Let the places of those be free who had numbers that are gone, int64 [n]."""
        if not len(gone):
            return
        names = self._names.seen
        # A few numbers are sought one by one: `isin` would sort.
        places = torch.cat(
            [(names == number).nonzero()[:, 0] for number in gone] if len(gone) <= FEW else [torch.isin(names, gone.int()).nonzero()[:, 0]]
        )
        stored = torch.searchsorted(self._starts.seen, places, right=True) - 1
        items = self._item_of()[self._owner.seen[stored]].unique()
        items = items[items >= 0]
        near, weights = self._padded(items)
        self._farthest[items] = _kth(weights.masked_fill(~self._used(live)[near.long()], 0.0))

    def _write(self, items: Tensor, names: Tensor, weights: Tensor) -> None:
        """Give items new rows: those of the names [n, W] whose weights are above 0."""
        real, stored = weights > 0, len(self._owner)
        self._names, self._weights = self._names.followed_by(names[real]), self._weights.followed_by(weights[real])
        self._starts = self._starts.followed_by(self._starts.seen[-1] + real.sum(1).cumsum(0))
        self._owner = self._owner.followed_by(self._number[items])
        self._row[items] = torch.arange(stored, stored + len(items), device=self.device)
        self._farthest[items] = _kth(weights)

    def _folded(self) -> Self:
        """Return this version without what it does not use, where that is much."""
        first, counts = self._span(torch.arange(len(self), device=self.device))
        if len(self._names) <= (1 + SPARE) * int(counts.sum()) + COUNT:
            return self
        after, places = copy(self), spans(first, counts)
        item, weights = self._item_of()[self._names.seen[places].long()], self._weights.seen[places]
        real = (item >= 0) & (weights > 0)
        owner = torch.arange(len(self), device=self.device)
        kept = owner.repeat_interleave(counts)[real].bincount(minlength=len(self))
        after._names, after._weights = Column.of(item[real].int()), Column.of(weights[real])
        after._starts, after._owner = Column.of(pad(kept.cumsum(0), (1, 0))), Column.of(owner)
        after._row = after._number = owner
        after.numbers, after._empty = len(self), None
        return after

    def with_room(self) -> Self:
        """Return the table in a memory that has room for more rows."""
        after = copy(self)
        after._names, after._weights = self._names.with_room(), self._weights.with_room()
        after._starts, after._owner = self._starts.with_room(), self._owner.with_room()
        return after


def _kth(weights: Tensor) -> Tensor:
    """Return the K-th largest of each row, [n]; 0 where a place is free."""
    if weights.shape[1] < COUNT:
        return weights.new_zeros(len(weights))
    return weights.amin(1) if weights.shape[1] == COUNT else weights.topk(COUNT, dim=1).values[:, -1]
