"""How a user's events are divided into train, valid and test, and how a division is named.

A split is identified by its fingerprint, which covers the catalogue, the users, the order of each user's events and their splits. It does
not cover file bytes, texts, or times beyond the order they give: two people who prepare the same split get the same fingerprint.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from laserrec.data.events import Events
from laserrec.data.tables import SPLITS
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


def leave_one_out(events: Events) -> tuple[Events, SplitInfo]:
    """Give each user's last event to test and the one before to valid; users with fewer than three events only train.

    Args:
        events: interactions sorted by user, in each user's order.

    Returns:
        The same rows with `split`, and how they were divided.
    """
    lengths = np.bincount(events.user, minlength=len(events.users))
    last = np.cumsum(lengths)[lengths >= 3] - 1
    split = np.zeros(len(events), dtype=np.int8)
    split[last - 1] = SPLITS.index("valid")
    split[last] = SPLITS.index("test")
    return replace(events, split=split), SplitInfo("leave-one-out", {})


def global_time(events: Events, valid_from: int, test_from: int) -> tuple[Events, SplitInfo]:
    """Divide all events at two moments, so that nothing in train is later than anything in valid, nor that than test.

    Args:
        events: interactions with times in seconds.
        valid_from: first second of valid.
        test_from: first second of test.

    Raises:
        DataError: the moments are in the wrong order, or leave a split empty.
    """
    if valid_from >= test_from:
        raise DataError(f"A global-time split needs valid_from < test_from; received {valid_from} and {test_from} (seconds since 1970).")
    split = np.digitize(events.time, [valid_from, test_from]).astype(np.int8)
    present = [SPLITS[code] for code in np.unique(split)]
    if len(present) < 3:
        times = f"{events.time.min()} to {events.time.max()}" if len(events) else "nothing to nothing"
        raise DataError(
            f"The global-time split at {valid_from} and {test_from} leaves only {', '.join(sorted(present)) or 'nothing'}; "
            f"times run from {times} (seconds since 1970). Choose moments between them."
        )
    return replace(events, split=split), SplitInfo("global-time", {"valid_from": valid_from, "test_from": test_from})


def moments_at(events: Events, valid_share: float, test_share: float) -> tuple[int, int]:
    """Return the two moments after which about these shares of all events lie, as (valid_from, test_from) in seconds."""
    if not (valid_share > 0 and test_share > 0 and valid_share + test_share < 1):
        raise DataError(f"Shares of valid and test must be positive and add up to less than 1; received {valid_share} and {test_share}.")
    times = np.sort(events.time)
    return int(times[int(len(times) * (1 - valid_share - test_share))]), int(times[int(len(times) * (1 - test_share))])


def fingerprint(events: Events) -> str:
    """Return the sha256 (hex) of a split.

    It covers the sorted item ids, the sorted user ids and, user by user in that order, the items of the events with their splits.

    Args:
        events: divided, sorted by user, each user's rows in order; every user has one. `items` is the catalogue, in any order.
    """
    place = np.empty(len(events.items), dtype=np.int64)
    place[events.items.arg_sort().to_numpy()] = np.arange(len(place))
    digest = hashlib.sha256(b"laserrec split 1\n")
    for ids in (events.items.sort(), events.users):
        digest.update(json.dumps(ids.to_list(), ensure_ascii=True, separators=(",", ":")).encode())
    for codes in (events.user, place[events.item], events.splits):
        digest.update(np.ascontiguousarray(codes, dtype="<i8").data)
    return digest.hexdigest()
