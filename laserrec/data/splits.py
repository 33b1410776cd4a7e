"""How a user's events are divided into train, valid and test, and how a division is named.

A split is identified by its fingerprint, which covers the catalogue, the users, the order of each user's events and their parts. It does
not cover file bytes, texts, or times beyond the order they give: two people who prepare the same split get the same fingerprint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from laserrec.data.tables import ITEM, PART, PART_TYPE, TIME, USER
from laserrec.errors import DataError

SplitKind = Literal["leave-one-out", "global-time", "source"]


@dataclass(frozen=True)
class SplitInfo:
    """How a dataset was divided.

    Attributes:
        kind: `leave-one-out`: a user's last event tests and the one before validates; `global-time`: two dates divide all events;
            `source`: the source brought its division.
        parameters: of `global-time`, the two dates in seconds.
    """

    kind: SplitKind
    parameters: dict[str, int]


@dataclass(frozen=True)
class KnownSplit:
    """A split that published numbers belong to.

    Attributes:
        name: short and stable, for code that looks published numbers up.
        title: for tables and reports.
    """

    name: str
    title: str


KNOWN_SPLITS: dict[str, KnownSplit] = {
    "c56a2f8342409978cd1cd13cd0d4c8759d3c01d00ab718e11bc8c16d6011386b": KnownSplit(
        name="unisrec-scientific", title="UniSRec's split of Amazon 2018 Industrial & Scientific (8,442 users, 4,385 items)"
    ),
}
"""By fingerprint. Each was computed by reading the released files, never from a description of them."""


def known_split(fingerprint: str) -> KnownSplit | None:
    """Return the published split that has this fingerprint, or None."""
    return KNOWN_SPLITS.get(fingerprint)


def leave_one_out(events: pl.DataFrame) -> tuple[pl.DataFrame, SplitInfo]:
    """Give each user's last event to test and the one before to valid; users with fewer than three events only train.

    Args:
        events: interactions in each user's order.

    Returns:
        The same rows with `part`, and how they were divided.
    """
    from_end = pl.len().over(USER) - 1 - pl.int_range(pl.len()).over(USER)
    enough = pl.len().over(USER) >= 3
    part = pl.when(enough & (from_end == 0)).then(pl.lit("test")).when(enough & (from_end == 1)).then(pl.lit("valid"))
    named = part.otherwise(pl.lit("train"))
    return events.with_columns(named.cast(PART_TYPE).alias(PART)), SplitInfo("leave-one-out", {})


def global_time(events: pl.DataFrame, valid_from: int, test_from: int) -> tuple[pl.DataFrame, SplitInfo]:
    """Divide all events at two moments, so that nothing in train is later than anything in valid, nor that than test.

    Args:
        events: interactions with `timestamp` in seconds.
        valid_from: first second of valid.
        test_from: first second of test.

    Raises:
        DataError: the moments are in the wrong order, or leave a part empty.
    """
    if valid_from >= test_from:
        raise DataError(f"A global-time split needs valid_from < test_from; received {valid_from} and {test_from} (seconds since 1970).")
    part = pl.when(pl.col(TIME) >= test_from).then(pl.lit("test")).when(pl.col(TIME) >= valid_from).then(pl.lit("valid"))
    events = events.with_columns(part.otherwise(pl.lit("train")).cast(PART_TYPE).alias(PART))
    present = events[PART].unique().to_list()
    if len(present) < 3:
        raise DataError(
            f"The global-time split at {valid_from} and {test_from} leaves only {', '.join(sorted(present)) or 'nothing'}; "
            f"times run from {events[TIME].min()!r} to {events[TIME].max()!r} (seconds since 1970). Choose moments between them."
        )
    return events, SplitInfo("global-time", {"valid_from": valid_from, "test_from": test_from})


def moments_at(events: pl.DataFrame, valid_share: float, test_share: float) -> tuple[int, int]:
    """Return the two moments after which about these shares of all events lie, as (valid_from, test_from) in seconds."""
    if not (valid_share > 0 and test_share > 0 and valid_share + test_share < 1):
        raise DataError(f"Shares of valid and test must be positive and add up to less than 1; received {valid_share} and {test_share}.")
    times = np.sort(events[TIME].to_numpy())
    return int(times[int(len(times) * (1 - valid_share - test_share))]), int(times[int(len(times) * (1 - test_share))])


def fingerprint(item_ids: Sequence[str], events: pl.DataFrame) -> str:
    """Return the sha256 (hex) of a split.

    It covers the sorted item ids, the sorted user ids and, user by user in that order, the items of the events with their parts.

    Args:
        item_ids: the catalogue, in any order.
        events: `user_id`, `item_id`, `part`, each user's rows in order.
    """
    items = pl.Series(item_ids, dtype=pl.String).sort()
    users = events[USER].unique().sort()
    events = by_user(events)
    digest = hashlib.sha256(b"laserrec split 1\n")
    for ids in (items, users):
        digest.update(json.dumps(ids.to_list(), ensure_ascii=True, separators=(",", ":")).encode())
    for codes in (positions(events[USER], users), positions(events[ITEM], items), events[PART].to_physical().cast(pl.Int64).to_numpy()):
        digest.update(np.ascontiguousarray(codes, dtype="<i8").tobytes())
    return digest.hexdigest()


def by_user(events: pl.DataFrame) -> pl.DataFrame:
    """Return the events sorted by user, each user's in the order they were."""
    return events if events[USER].is_sorted() else events.sort(USER, maintain_order=True)


def positions(ids: pl.Series, among: pl.Series) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return where each id stands among unique ones, int64.

    Raises:
        DataError: an id is not among them.
    """
    table = pl.DataFrame({"id": among, "position": pl.Series(range(len(among)), dtype=pl.Int64)})
    found = pl.DataFrame({"id": ids}).join(table, on="id", how="left", maintain_order="left")
    if found["position"].null_count():
        unknown = found.filter(pl.col("position").is_null())["id"][0]
        raise DataError(f"The id {unknown!r} occurs in the interactions but not among the {len(among)} known ids.")
    return found["position"].to_numpy().astype(np.int64, copy=False)
