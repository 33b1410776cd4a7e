"""What is taken out of a log before it is split: duplicates, repeats, and users and items with too few events."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from laserrec.data.events import Events
from laserrec.data.tables import MICROSECONDS


def in_order(events: Events) -> Events:
    """Sort by user, part, moment and, where moments tie, by item id, which unlike the order of a file is the same for everyone.

    Args:
        events: with sorted `items`.
    """
    if not len(events):
        return events
    start = events.time.min()
    time = events.time - start
    unit = 1 if (time % MICROSECONDS).any() else MICROSECONDS
    columns = [events.user, *([] if events.part is None else [events.part.astype(np.int64)]), time // unit, events.item]
    user, *part, time, item = _sorted_rows(columns)
    return replace(events, user=user, item=item, time=time * unit + start, part=part[0].astype(np.int8) if part else None)


def _sorted_rows(columns: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """Sort the rows of a table of numbers from 0 up, the first column counting most."""
    widths = [int(column.max()).bit_length() for column in columns]
    if sum(widths) > 64:
        return [column.to_numpy() for column in pl.DataFrame(columns).sort(pl.all())]
    # A row that fits one number is sorted as one, which takes a tenth of the time.
    key = np.zeros(len(columns[0]), dtype=np.uint64)
    for column, width in zip(columns, widths, strict=True):
        key <<= np.uint64(width)
        key |= column.view(np.uint64)
    key = pl.Series(key).sort().to_numpy(writable=True)
    parted = []
    for width in reversed(widths):
        parted.append((key & np.uint64((1 << width) - 1)).view(np.int64))
        key >>= np.uint64(width)
    return parted[::-1]


def drop_duplicates(events: Events) -> Events:
    """Keep one of the rows that agree in user, item and moment; rows must be as `in_order` sorts undivided ones."""
    new = np.ones(len(events), dtype=np.bool_)
    new[1:] = events.user[1:] != events.user[:-1]
    new[1:] |= events.time[1:] != events.time[:-1]
    new[1:] |= events.item[1:] != events.item[:-1]
    return events.take(new)


def count_repeats(events: Events) -> int:
    """Count the events with an item that the user has had before."""
    return len(events) - pl.Series(_pairs(events)).n_unique()


def drop_repeats(events: Events) -> Events:
    """Keep a user's first event with each item; rows must be in each user's order."""
    return events.take(pl.Series(_pairs(events)).is_first_distinct().to_numpy())


def _pairs(events: Events) -> NDArray[np.int64]:
    return events.user * len(events.items) + events.item


def k_core(events: Events, min_user: int, min_item: int) -> Events:
    """Drop users and items with too few events, again and again until none is left.

    Args:
        events: interactions.
        min_user: fewest events of a user.
        min_item: fewest events of an item.

    Returns:
        The largest set of rows in which every user has `min_user` events and every item `min_item`.
    """
    users = np.bincount(events.user, minlength=len(events.users))
    items = np.bincount(events.item, minlength=len(events.items))
    kept = np.ones(len(events), dtype=np.bool_)
    while True:
        # Looked for among all rows, and only what goes is counted: cheaper than copying what stays, round after round.
        gone = kept & ((users < min_user)[events.user] | (items < min_item)[events.item])
        if not gone.any():
            return events.take(kept)
        users -= np.bincount(events.user[gone], minlength=len(users))
        items -= np.bincount(events.item[gone], minlength=len(items))
        kept &= ~gone
