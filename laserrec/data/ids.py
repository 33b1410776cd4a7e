"""Ids as numbers. Texts are slow to sort, to compare and to count, so each is replaced once by its place among the distinct ids.

Knows nothing of users, items or files.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import numpy as np
import polars as pl
from numpy.typing import NDArray

from laserrec.errors import DataError

_MIXER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying by it keeps different numbers different
_MOST_BITS = 20  # a larger table would not fit the caches, a smaller one needs more rounds


def distinct(ids: pl.Series) -> tuple[pl.Series, NDArray[np.int64]]:
    """Return the distinct ids, sorted, and for each row the place of its id among them.

    Args:
        ids: String, without nulls.

    Returns:
        String [D] and int64 [rows].
    """
    for seed in count():
        codes, size = number_alike(ids.hash(seed).to_numpy())
        example = np.empty(size, dtype=np.int64)
        example[codes] = np.arange(len(codes))
        found = gather(ids, example)
        # Two ids may share a hash, however rarely; then another hash is tried.
        if (gather(found, codes) == ids).all():
            break
    order = found.arg_sort().to_numpy().astype(np.int64)
    place = np.empty(size, dtype=np.int64)
    place[order] = np.arange(size)
    return gather(found, order), place[codes]


def numbered(values: pl.Series, read: Callable[[pl.Series], pl.Series]) -> tuple[pl.Series, NDArray[np.int64]]:
    """Return the distinct ids of a column, sorted, and for each row the place of its id among them, -1 where it has none.

    Args:
        values: of any type.
        read: returns the ids of a column, String, null where there is none; what it returned it returns again.

    Returns:
        String [D] and int64 [rows].
    """
    if values.dtype != pl.String:
        values = read(values)
    if values.null_count():
        values = values.fill_null("")
    found, codes = distinct(values)
    known = read(found)  # of distinct texts alone: there are far fewer of them than rows
    if (known == found).all(ignore_nulls=False):
        return found, codes
    number = np.full(len(found), -1, dtype=np.int64)
    names, number[known.is_not_null().to_numpy()] = distinct(known.drop_nulls())
    return names, number[codes]


def number_alike(keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], int]:
    """Give equal keys one number and different keys different ones, from 0.

    Every key claims the place in a table that its first bits name. One of those that want a place has it, and all its equals are
    settled at once; the few others try again with other bits. Sorting or a dictionary takes many times as long.

    Args:
        keys: uint64 [rows], of evenly spread bits (hashes).

    Returns:
        The number of each row's key, int64 [rows], and how many numbers there are.
    """
    numbers = np.empty(len(keys), dtype=np.int64)
    rows: NDArray[np.int64] | None = None  # all of them
    size = 0
    while len(keys):
        bits = min(_MOST_BITS, max(8, len(keys).bit_length()))
        places = (keys >> np.uint64(64 - bits)).astype(np.int64)
        holder = np.empty(1 << bits, dtype=np.uint64)
        holder[places] = keys
        settled = holder[places] == keys
        taken = np.zeros(1 << bits, dtype=np.bool_)
        taken[places] = True
        number = np.cumsum(taken) + (size - 1)
        if rows is None:
            numbers[:] = number[places]
            rows = np.flatnonzero(~settled)
        else:
            numbers[rows] = number[places]
            rows = rows[~settled]
        size = int(number[-1]) + 1
        keys = keys[~settled] * _MIXER
    return numbers, size


def places_among(ids: pl.Series, known: pl.Series) -> NDArray[np.int64]:
    """Return where each id stands among unique known ones, int64.

    Raises:
        DataError: an id is not among them.
    """
    table = pl.DataFrame({"id": known, "place": pl.Series(range(len(known)), dtype=pl.Int64)})
    found = pl.DataFrame({"id": ids}).join(table, on="id", how="left", maintain_order="left")
    if found["place"].null_count():
        unknown = found.filter(pl.col("place").is_null())["id"][0]
        raise DataError(f"The id {unknown!r} occurs in the interactions but not among the {len(known)} known ids.")
    return found["place"].to_numpy().astype(np.int64, copy=False)


def gather(values: pl.Series, rows: NDArray[np.int64]) -> pl.Series:
    """Return the values at some rows, int64 [any] and not negative."""
    return values.gather(pl.Series(rows.astype(np.uint32)))
