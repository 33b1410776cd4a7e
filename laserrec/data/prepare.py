"""From a source to a dataset: read, refuse if too much is wrong, filter, split. Nothing is dropped without being counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from laserrec.data.advice import MANY_TIES, Advice, tied_events
from laserrec.data.dataset import Dataset
from laserrec.data.events import Events
from laserrec.data.filters import Ties, count_repeats, drop_duplicates, drop_repeats, in_order, k_core, sorted_by_item, tied_share
from laserrec.data.ids import places_among
from laserrec.data.options import ReadOptions
from laserrec.data.raw import RawTables
from laserrec.data.reading.memory import Tables
from laserrec.data.sources import Format, read_source
from laserrec.data.splits import SplitInfo, global_time, known_split, leave_one_out, moments_at
from laserrec.data.tables import ITEM, MICROSECONDS, TITLE, BadRow
from laserrec.errors import BadRowsError, DataError

SHOWN_PROBLEMS = 10
_FEW, _MUCH = 0.1, 1 / 3  # of the log's items in the table of items; of the events outside the core
SHARE = 0.1
"""Of all events, that the splits valid and test of a global-time split get each by default."""


@dataclass(frozen=True)
class PrepareOptions:
    """How a source becomes a dataset.

    Attributes:
        name: what tables and reports call the dataset; the source's name when unset.
        format: of the source; found out from its files when unset.
        read: columns, encoding, order.
        split: `leave-one-out` or `global-time`; when unset the source's own split, else leave-one-out.
        valid_share: of all events, for global-time alone; `SHARE` when unset.
        test_share: likewise.
        min_user: fewest events of a user; 5 when unset, 1 for a source that brings its split.
        min_item: fewest events of an item; likewise.
        ties: what orders a user's events of one moment: the order of the source (`file`) or a hash of seed, user, item and moment (`hash`).
            When unset the source's, unless it stands sorted by item there: a model would learn the order of ids.
        tie_seed: of the hash.
        keep_repeats: keep a user's later events with an item they already had.
        drop_unknown: drop events whose item the item table lacks; otherwise such items stay, without text.
        drop_untitled: drop items without a title, and their events (paper §6).
        all_items: also keep items that occur in no event, for instance new ones.
        max_bad_share: share of bad rows above which nothing is prepared.
    """

    name: str | None = None
    format: Format | None = None
    read: ReadOptions = field(default_factory=ReadOptions)
    split: Literal["leave-one-out", "global-time"] | None = None
    valid_share: float | None = None
    test_share: float | None = None
    min_user: int | None = None
    min_item: int | None = None
    ties: Ties | None = None
    tie_seed: int = 0
    keep_repeats: bool = True
    drop_unknown: bool = False
    drop_untitled: bool = False
    all_items: bool = False
    max_bad_share: float = 0.01


@dataclass(frozen=True)
class PrepareSummary:
    """What happened on the way.

    Attributes:
        format: name of the reader.
        columns: which column was read as what.
        ignored: columns of each table that were not read.
        notes: what a user should know about how the source was read.
        advice: what was found that a user may want to choose otherwise.
        rows: rows read, bad ones included.
        bad_rows: rows that could not be used.
        problems: the first of them.
        left_out: rows that `keep` and `min_rating` left out.
        tied: share of the events that share user and moment with another.
        ties: what orders those: `file` or `hash`.
        duplicates: events dropped because user, item and moment agree with another's.
        repeats: events with an item that the user already had; dropped unless repeats are kept.
        repeats_kept: they were kept.
        unknown_items: items of events that the item table lacks.
        unknown_dropped: events dropped for that.
        untitled_dropped: events dropped because their item has no title.
        core_dropped: events dropped because their user or item had too few.
        unused_items: items left out because no event of theirs is left; none when all items are kept.
        min_user: fewest events of a user that was applied.
        min_item: fewest events of an item that was applied.
        users: users of the dataset.
        items: items of the dataset.
        interactions: events of the dataset.
        without_text: items of the dataset without any attribute.
        split: how the events were divided.
        fingerprint: of the dataset.
        known_as: title of the published split with this fingerprint.
    """

    format: str
    columns: dict[str, str]
    ignored: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]
    advice: tuple[Advice, ...]
    rows: int
    bad_rows: int
    problems: tuple[BadRow, ...]
    left_out: int
    tied: float
    ties: Ties
    duplicates: int
    repeats: int
    repeats_kept: bool
    unknown_items: int
    unknown_dropped: int
    untitled_dropped: int
    core_dropped: int
    unused_items: int
    min_user: int
    min_item: int
    users: int
    items: int
    interactions: int
    without_text: int
    split: SplitInfo
    fingerprint: str
    known_as: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        return dataclasses.asdict(self)


def prepare(source: str | Path | Tables, options: PrepareOptions | None = None) -> tuple[Dataset, PrepareSummary]:
    """Read a source and make a dataset of it.

    Args:
        source: a file, a folder with one dataset's files, tables in memory, or the address of a service's database.
        options: see `PrepareOptions`.

    Returns:
        The dataset, not yet saved, and what happened on the way.

    Raises:
        DataError: the source cannot be read, nothing is left of it, or an option would be ignored.
        BadRowsError: more bad rows than `max_bad_share` allows.
    """
    options = options or PrepareOptions()
    _refuse_idle_shares(options)
    raw = read_source(source, options.format, options.read)
    _refuse_bad(raw, options.max_bad_share)
    counts: dict[str, int] = {}
    events, ties, tied = _ordered(raw, options)
    events, items = _filtered(raw, events, options, counts)
    advice = (*raw.advice, *_advice(raw, counts, ties, tied))
    events, split = _divided(events, options)
    catalogue = items.join(pl.DataFrame({ITEM: events.items}), on=ITEM, how="full" if options.all_items else "right", coalesce=True)
    catalogue = catalogue.select(items.columns).sort(ITEM)
    counts["unused_items"] = items.join(catalogue, on=ITEM, how="anti").height
    events = dataclasses.replace(events, items=catalogue[ITEM], item=places_among(events.items, catalogue[ITEM])[events.item])
    order = {"ties": ties, "tied": round(tied, 4)} | ({"seed": options.tie_seed} if ties == "hash" else {})
    details = {"source": {**_origin(raw, options, counts), "order": order}}
    dataset = Dataset.of(options.name or raw.name, catalogue, events, split, details)
    published = known_split(dataset.fingerprint)
    return dataset, PrepareSummary(
        format=raw.format,
        columns=raw.columns,
        ignored=dict(raw.ignored),
        notes=raw.notes,
        advice=advice,
        rows=raw.rows,
        bad_rows=len(raw.problems),
        problems=raw.problems[:SHOWN_PROBLEMS],
        left_out=raw.left_out,
        tied=tied,
        ties=ties,
        repeats_kept=options.keep_repeats,
        users=len(events.users),
        items=catalogue.height,
        interactions=len(events),
        without_text=catalogue.select(pl.all_horizontal(pl.exclude(ITEM).is_null()).sum()).item(),
        split=split,
        fingerprint=dataset.fingerprint,
        known_as=published.title if published else None,
        **counts,
    )


def _origin(raw: RawTables, options: PrepareOptions, counts: dict[str, int]) -> dict[str, Any]:
    """Return what the manifest says of the source and of what was dropped."""
    return {
        "format": raw.format,
        "files": [dataclasses.asdict(file) for file in raw.sources],
        "options": _plain(options),
        "counts": {**counts, "bad_rows": len(raw.problems), "left_out": raw.left_out},
    }


def _refuse_bad(raw: RawTables, allowed: float) -> None:
    bad = len(raw.problems)
    if not raw.rows or (bad <= allowed * raw.rows and (len(raw.events) or not bad)):
        return
    shown = "\n".join(f"  {problem}" for problem in raw.problems[:SHOWN_PROBLEMS])
    advice = "".join(f"{entry}.\n" for entry in raw.advice)
    limit = f"more than the {allowed:.1%} allowed" if bad > allowed * raw.rows else "and no event is left"
    more = f", or allow more (max_bad_share={min(1.0, bad / raw.rows + 0.01):.2f})" if len(raw.events) else ""
    options = dict.fromkeys(name for entry in raw.advice for name, _ in entry.options)
    raise BadRowsError(
        f"{bad} of {raw.rows} rows ({bad / raw.rows:.1%}) cannot be used, {limit}; nothing was written.\n{shown}\n{advice}"
        f"{'Or c' if advice else 'C'}orrect the source{more}.",
        parameters=[*options, *(["max_bad_share"] if more else [])],
    )


def _ordered(raw: RawTables, options: PrepareOptions) -> tuple[Events, Ties, float]:
    """Return the events in order, what decides where moments tie, and the share of the events that do."""
    events = raw.events if options.split is None else dataclasses.replace(raw.events, split=None)
    ties: Ties = options.ties or "file"
    ordered = in_order(events, ties, options.tie_seed)
    # A source's own split is somebody's decision down to the event: its order is not looked into.
    if options.ties is None and events.split is None and sorted_by_item(ordered):
        ties = "hash"
        ordered = in_order(events, ties, options.tie_seed)
    return ordered, ties, tied_share(ordered)


def _advice(raw: RawTables, counts: dict[str, int], ties: Ties, tied: float) -> Iterator[Advice]:
    """Yield what makes figures on this log mean less than they seem to."""
    log, items = raw.events.items, raw.items[ITEM]
    known = int(log.is_in(items.implode()).sum())
    if len(items) and known < _FEW * len(log):
        found = f"ONLY {known:,}" if known else "NONE"
        text = (
            f"{found} of the log's {len(log):,} items {'is' if known == 1 else 'are'} in the table of items, so the others have no text: "
            f"the log writes ids such as {log[0]!r}, the table of items {items[0]!r}; check which column holds the ids"
        )
        yield Advice(text, (("item", "COLUMN"), ("item_id", "COLUMN")))
    if tied > MANY_TIES:
        yield tied_events(tied, ties)
    dropped, events = counts["core_dropped"], len(raw.events)
    if dropped > _MUCH * events:
        limits = {name: counts[name] for name in ("min_user", "min_item")}
        text = (
            f"{dropped:,} of {events:,} events ({dropped / events:.0%}) were dropped because their user has fewer than "
            f"{limits['min_user']} events or their item fewer than {limits['min_item']}; keep more with lower limits"
        )
        yield Advice(text, tuple((name, str(limit // 2)) for name, limit in limits.items() if limit > 1))


def _filtered(raw: RawTables, events: Events, options: PrepareOptions, counts: dict[str, int]) -> tuple[Events, pl.DataFrame]:
    """Return those of the ordered events that stay, and the items that may, and count what went."""

    def keep(reason: str, before: Events, after: Events) -> Events:
        counts[reason] = len(before) - len(after)
        return after

    items = raw.items
    # A source's own split is somebody's decision down to the event: it stays as it is.
    events = keep("duplicates", events, events if events.split is not None else drop_duplicates(events))
    counts["repeats"] = count_repeats(events)
    events = events if options.keep_repeats else drop_repeats(events)
    known, titled = _among(events.items, items), _among(events.items, items.drop_nulls(TITLE))
    counts["unknown_items"] = int((~known).sum()) if items.height else 0
    events = keep("unknown_dropped", events, events.take(known[events.item]) if options.drop_unknown else events)
    events = keep("untitled_dropped", events, events.take(titled[events.item]) if options.drop_untitled else events)
    if options.drop_untitled:
        items = items.drop_nulls(TITLE)
    default = 1 if raw.own_split else 5
    counts["min_user"] = default if options.min_user is None else options.min_user
    counts["min_item"] = default if options.min_item is None else options.min_item
    left = k_core(events, counts["min_user"], counts["min_item"])
    if not len(left):
        raise DataError(
            f"No interaction is left: {len(raw.events)} were read, {len(events)} stayed after filtering, and none where every "
            f"user has {counts['min_user']} and every item {counts['min_item']} events. Lower one of the two.",
            parameters=["min_user", "min_item"],
        )
    return keep("core_dropped", events, left).compact(), items


def _among(ids: pl.Series, items: pl.DataFrame) -> NDArray[np.bool_]:
    return ids.is_in(items[ITEM].implode()).to_numpy()


def _refuse_idle_shares(options: PrepareOptions) -> None:
    """Refuse shares that the split has no use for: whoever gives one expects it to matter."""
    shares = {"valid_share": options.valid_share, "test_share": options.test_share}
    given = [name for name, share in shares.items() if share is not None]
    if given and options.split != "global-time":
        split = options.split or "the source's own split, else leave-one-out"
        message = f"{' and '.join(given)} would be ignored: the split is {split}. Choose the split 'global-time', or leave shares out."
        raise DataError(message, parameters=[*given, "split"])


def _divided(events: Events, options: PrepareOptions) -> tuple[Events, SplitInfo]:
    events = dataclasses.replace(events, time=events.time // MICROSECONDS)
    if events.split is not None:
        return events, SplitInfo("source", {})
    if options.split == "global-time":
        shares = (SHARE if share is None else share for share in (options.valid_share, options.test_share))
        return global_time(events, *moments_at(events, *shares))
    return leave_one_out(events)


def _plain(options: PrepareOptions) -> dict[str, Any]:
    """Return the options that differ from the defaults, without paths, which are private."""
    values, defaults = dataclasses.asdict(options), dataclasses.asdict(PrepareOptions())
    values["read"] = {key: value for key, value in values["read"].items() if value != defaults["read"][key] and key != "items"}
    return {key: value for key, value in values.items() if value != defaults[key] and value != {}}
