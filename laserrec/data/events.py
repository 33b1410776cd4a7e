"""Interactions as numbers: what every step between reading and writing works on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from laserrec.data.ids import distinct, gather
from laserrec.data.tables import ITEM, SPLIT, SPLIT_TYPE, SPLITS, TIME, USER

BEFORE = -1
"""Code of the split `history`: it comes before train. In tables it is the last, so that the others' codes are there as here."""


@dataclass(frozen=True)
class Events:
    """Columns of equal length, one row an event.

    Attributes:
        users: the ids that `user` counts, String; sorted.
        items: the ids that `item` counts, String; sorted, or in the order of a catalogue.
        user: each event's user, int64 [rows].
        item: each event's item, int64 [rows].
        time: int64 [rows]; microseconds in what a reader gives, seconds in a dataset.
        split: -1 history, 0 train, 1 valid, 2 test, int8 [rows]; None where the events are not divided.
    """

    users: pl.Series
    items: pl.Series
    user: NDArray[np.int64]
    item: NDArray[np.int64]
    time: NDArray[np.int64]
    split: NDArray[np.int8] | None = None

    @classmethod
    def of(cls, table: pl.DataFrame) -> Events:
        """Number the ids of a table.

        Args:
            table: `user_id` and `item_id` (String), `timestamp` (Int64) and perhaps `split`, without nulls.
        """
        with ThreadPoolExecutor(2) as pool:
            (users, user), (items, item) = pool.map(distinct, (table[USER], table[ITEM]))
        split = None
        if SPLIT in table.columns:
            split = table[SPLIT].to_physical().to_numpy().astype(np.int8)
            split = np.where(split == len(SPLITS), BEFORE, split).astype(np.int8)
        return cls(users, items, user, item, table[TIME].to_numpy(), split)

    def __len__(self) -> int:
        return len(self.user)

    @property
    def splits(self) -> NDArray[np.int8]:
        """Each event's split, int8 [rows], of events that are divided."""
        if self.split is None:
            raise ValueError("These events are not divided into splits.")
        return self.split

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Events:
        """Return some rows, chosen by a mask or by their numbers."""
        if rows.dtype == np.bool_ and rows.all():
            return self
        split = None if self.split is None else self.split[rows]
        places = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        with ThreadPoolExecutor(2) as pool:  # numpy lets go of the interpreter while it gathers
            user, item, time = pool.map(lambda values: values.take(places), (self.user, self.item, self.time))
        return replace(self, user=user, item=item, time=time, split=split)

    def compact(self) -> Events:
        """Return the same events without the ids that none of them has."""
        users, user = _used(self.users, self.user)
        items, item = _used(self.items, self.item)
        return replace(self, users=users, items=items, user=user, item=item)

    def frame(self) -> pl.DataFrame:
        """Return the events as a table of ids, times and, if they are divided, splits."""
        columns = {USER: gather(self.users, self.user), ITEM: gather(self.items, self.item), TIME: pl.Series(self.time)}
        if self.split is not None:
            columns[SPLIT] = gather(SPLIT_TYPE.categories.cast(SPLIT_TYPE), self.split.astype(np.int64) % len(SPLIT_TYPE.categories))
        return pl.DataFrame(columns)


def _used(ids: pl.Series, codes: NDArray[np.int64]) -> tuple[pl.Series, NDArray[np.int64]]:
    used = np.bincount(codes, minlength=len(ids)) > 0
    return (ids, codes) if used.all() else (ids.filter(pl.Series(used)), (np.cumsum(used) - 1)[codes])
