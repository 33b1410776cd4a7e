"""What is removed from a log before it is split: duplicates, repeats, and users and items with too few events; and the order it gets."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from laserrec.data.events import Events
from laserrec.data.tables import MICROSECONDS

Ties = Literal["file", "hash"]
_FEWEST_PAIRS = 20  # by chance, 20 pairs all rise once in half a million files
_SORTED_SHARE = 0.95  # of neighbours within a moment; a file sorted by item has 1, one in any other order about a half
_WORD = 2**64


def in_order(events: Events, ties: Ties = "file", seed: int = 0) -> Events:
    """Sort by user, split and moment.

    Args:
        events: in the order of the source.
        ties: what decides where moments tie: the order of the source, or a hash of user, item and moment, which teaches nothing. Never the
            item's id: a model learns the order of ids, which no future event follows.
        seed: of the hash.
    """
    if not len(events):
        return events
    who = events.user if events.split is None else events.user * 4 + (events.split.astype(np.int64) + 1)
    rows = np.argsort(_hashes(events, seed), kind="stable") if ties == "hash" else None
    for key in _keys(who, events.time):
        rows = stable_order(key, rows)
    return events if rows is None else events.take(rows)


def _keys(who: NDArray[np.int64], time: NDArray[np.int64]) -> list[NDArray[Any]]:
    """Return what rows are sorted by, one after the other, the least first: who and when in one number where they fit one."""
    if (time[1:] >= time[:-1]).all():
        return [who]  # most logs are written as things happen
    first, last, highest = int(time.min()), int(time.max()), int(who.max())
    if last - first >= 2**63:
        return [time, who]
    since = time - first
    unit = MICROSECONDS if not (since % MICROSECONDS).any() else 1
    width = ((last - first) // unit).bit_length()
    # No value may spill into its neighbour's bits: an event would change its user. Python's whole numbers, which do not overflow, tell.
    if highest.bit_length() + width > 64:
        return [time, who]
    return [(who.astype(np.uint64) << np.uint64(width)) | (since // unit).astype(np.uint64)]


def stable_order(values: NDArray[Any], rows: NDArray[np.int64] | None = None) -> NDArray[np.int64] | None:
    """Return the numbers of the rows sorted by value, equal ones in the order they were in.

    Args:
        values: int64 or uint64 [rows].
        rows: the order they are in, int64 [rows]; None for the order of the array.

    Returns:
        int64 [rows]; None where the array's own order is the answer.
    """
    if rows is not None:
        values = values[rows]
    if not len(values) or (values[1:] >= values[:-1]).all():
        return rows
    smallest, largest = values.min(), values.max()
    width = (len(values) - 1).bit_length()
    if (int(largest) - int(smallest)).bit_length() + width <= 64:
        # A value and its row that fit one number are sorted as one, which takes half the time.
        key = (values - smallest).astype(np.uint64) << np.uint64(width)
        key |= np.arange(len(values), dtype=np.uint64)
        order = (pl.Series(key).sort().to_numpy() & np.uint64((1 << width) - 1)).astype(np.int64)
    else:
        table = pl.DataFrame({"value": values}).with_row_index("row").sort("value", maintain_order=True)
        order = table["row"].to_numpy().astype(np.int64)
    return order if rows is None else rows[order]


def tied(events: Events) -> NDArray[np.bool_]:
    """Return which events share user and moment with the one before, bool [rows]; rows must be as `in_order` sorts them."""
    found = np.zeros(len(events), dtype=np.bool_)
    found[1:] = (events.user[1:] == events.user[:-1]) & (events.time[1:] == events.time[:-1])
    return found


def tied_share(events: Events) -> float:
    """Return the share of the events that share user and moment with another; rows must be as `in_order` sorts them."""
    later = tied(events)
    return float((later | np.append(later[1:], False)).mean()) if len(events) else 0.0


def sorted_by_item(events: Events) -> bool:
    """Find out whether ties stand sorted by the item's id, as text or as number, so that the order of the file is that of the ids.

    Args:
        events: as `in_order` sorts them by the order of the file.
    """
    pairs = np.flatnonzero(tied(events))
    before, after = events.item[pairs - 1], events.item[pairs]
    different = before != after
    before, after = before[different], after[different]
    if len(before) < _FEWEST_PAIRS:
        return False
    places = [events.items.rank("dense").to_numpy().astype(np.float64)]
    numbers = events.items.str.extract(r"(\d+)$").cast(pl.Float64)  # also of ids such as item12
    if not numbers.null_count():
        places.append(numbers.to_numpy())
    rising = [float((place[before] < place[after]).mean()) for place in places]
    return any(share >= _SORTED_SHARE or share <= 1 - _SORTED_SHARE for share in rising)


def _hashes(events: Events, seed: int) -> NDArray[np.uint64]:
    """Return a number a row that depends on seed, user, item and moment alone, the same on every machine; uint64 [rows]."""
    user, item = _digests(events.users)[events.user], _digests(events.items)[events.item]
    return _mixed(_mixed(_mixed(user + np.uint64(seed % _WORD)) ^ item) ^ events.time.view(np.uint64))


def _digests(ids: pl.Series) -> NDArray[np.uint64]:
    digests = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in ids)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread every bit over all others, as SplitMix64 does."""
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def drop_duplicates(events: Events) -> Events:
    """Keep the first of the rows that agree in user, item and moment; rows must be as `in_order` sorts undivided ones."""
    later = tied(events)
    inside = np.flatnonzero(later | np.append(later[1:], False))
    moment = np.cumsum(~later[inside])  # the same for all rows of one user's moment
    first = pl.DataFrame({"moment": moment, "item": events.item[inside]}).select(pl.struct(pl.all()).is_first_distinct()).to_series()
    kept = np.ones(len(events), dtype=np.bool_)
    kept[inside] = first.to_numpy()
    return events.take(kept)


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
