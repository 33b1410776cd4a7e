"""From a source to a dataset: read, refuse if too much is wrong, filter, split. Nothing is dropped without being counted."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

from laserrec.data.dataset import Dataset
from laserrec.data.filters import drop_duplicates, drop_repeats, in_order, k_core
from laserrec.data.options import ReadOptions
from laserrec.data.sources import Format, read_source
from laserrec.data.splits import SplitInfo, global_time, known_split, leave_one_out, moments_at
from laserrec.data.tables import ITEM, MICROSECONDS, PART, TIME, TITLE, BadRow, RawTables
from laserrec.errors import BadRowsError, DataError

SHOWN_PROBLEMS = 10


@dataclass(frozen=True)
class PrepareOptions:
    """How a source becomes a dataset.

    Attributes:
        name: what tables and reports call the dataset; the source's name when unset.
        format: of the source; found out from its files when unset.
        read: columns, encoding, order.
        split: `leave-one-out` or `global-time`; when unset the source's own split, else leave-one-out.
        valid_share: of all events, for global-time.
        test_share: of all events, for global-time.
        min_user: fewest events of a user; 5 when unset, 1 for a source that brings its split.
        min_item: fewest events of an item; likewise.
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
    valid_share: float = 0.1
    test_share: float = 0.1
    min_user: int | None = None
    min_item: int | None = None
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
        columns: which column was taken for what.
        notes: what a user should know about how the source was read.
        rows: rows read, bad ones included.
        bad_rows: rows that could not be used.
        problems: the first of them.
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
    notes: tuple[str, ...]
    rows: int
    bad_rows: int
    problems: tuple[BadRow, ...]
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


def prepare(source: Path, options: PrepareOptions | None = None) -> tuple[Dataset, PrepareSummary]:
    """Read a source and make a dataset of it.

    Args:
        source: a file, or a folder with one dataset's files.
        options: see `PrepareOptions`.

    Returns:
        The dataset, not yet saved, and what happened on the way.

    Raises:
        DataError: the source cannot be read, or nothing is left of it.
        BadRowsError: more bad rows than `max_bad_share` allows.
    """
    options = options or PrepareOptions()
    raw = read_source(source, options.format, options.read)
    _refuse_bad(raw, options.max_bad_share)
    counts: dict[str, int] = {}
    events, items = _filtered(raw, options, counts)
    events, split = _divided(raw, events, options)
    catalogue = items.join(events.select(ITEM).unique(), on=ITEM, how="full" if options.all_items else "right", coalesce=True)
    catalogue = catalogue.select(items.columns).sort(ITEM)
    counts["unused_items"] = items.join(catalogue, on=ITEM, how="anti").height
    sources = [dataclasses.asdict(file) for file in raw.sources]
    details = {"format": raw.format, "files": sources, "options": _plain(options), "counts": {**counts, "bad_rows": len(raw.problems)}}
    dataset = Dataset.build(options.name or raw.name, catalogue, events, split, {"source": details})
    published = known_split(dataset.fingerprint)
    return dataset, PrepareSummary(
        format=raw.format,
        columns=raw.columns,
        notes=raw.notes,
        rows=raw.rows,
        bad_rows=len(raw.problems),
        problems=raw.problems[:SHOWN_PROBLEMS],
        repeats_kept=options.keep_repeats or raw.own_split,
        users=len(dataset.user_ids),
        items=dataset.items.height,
        interactions=dataset.interactions.height,
        without_text=sum(1 for attributes in dataset.attributes() if not attributes),
        split=split,
        fingerprint=dataset.fingerprint,
        known_as=published.title if published else None,
        **counts,
    )


def _refuse_bad(raw: RawTables, allowed: float) -> None:
    bad = len(raw.problems)
    if raw.rows and bad > allowed * raw.rows:
        shown = "\n".join(f"  {problem}" for problem in raw.problems[:SHOWN_PROBLEMS])
        raise BadRowsError(
            f"{bad} of {raw.rows} rows ({bad / raw.rows:.1%}) cannot be used, more than the {allowed:.1%} allowed; nothing was written.\n"
            f"{shown}\nCorrect the source, or allow more with --max-bad-share {min(1.0, bad / raw.rows + 0.01):.2f}."
        )


def _filtered(raw: RawTables, options: PrepareOptions, counts: dict[str, int]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the events that stay and the items that may, and count what went."""

    def keep(reason: str, before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
        counts[reason] = before.height - after.height
        return after

    items, events = raw.items, in_order(raw.interactions)
    # A source's own split is somebody's decision down to the event: it is taken as it is.
    events = keep("duplicates", events, events if raw.own_split and not options.split else drop_duplicates(events))
    once = drop_repeats(events)
    counts["repeats"] = events.height - once.height
    if not options.keep_repeats:
        events = once
    known = pl.col(ITEM).is_in(items[ITEM].implode())
    counts["unknown_items"] = events.filter(~known)[ITEM].n_unique() if items.height else 0
    events = keep("unknown_dropped", events, events.filter(known) if options.drop_unknown else events)
    titled = items.filter(pl.col(TITLE).is_not_null())
    if options.drop_untitled:
        items = titled
    events = keep(
        "untitled_dropped", events, events.filter(pl.col(ITEM).is_in(titled[ITEM].implode())) if options.drop_untitled else events
    )
    default = 1 if raw.own_split else 5
    counts["min_user"] = default if options.min_user is None else options.min_user
    counts["min_item"] = default if options.min_item is None else options.min_item
    left = k_core(events, counts["min_user"], counts["min_item"])
    if not left.height:
        raise DataError(
            f"No interaction is left: {raw.interactions.height} were read, {events.height} stayed after filtering, and none where every "
            f"user has {counts['min_user']} and every item {counts['min_item']} events. Lower --min-user or --min-item."
        )
    return keep("core_dropped", events, left), items


def _divided(raw: RawTables, events: pl.DataFrame, options: PrepareOptions) -> tuple[pl.DataFrame, SplitInfo]:
    if raw.own_split and options.split is None:
        return _in_seconds(events), SplitInfo("source", {})
    if raw.own_split:
        events = in_order(events.drop(PART))
    events = _in_seconds(events)
    if options.split == "global-time":
        return global_time(events, *moments_at(events, options.valid_share, options.test_share))
    return leave_one_out(events)


def _in_seconds(events: pl.DataFrame) -> pl.DataFrame:
    return events.with_columns(pl.col(TIME) // MICROSECONDS)


def _plain(options: PrepareOptions) -> dict[str, Any]:
    """Return the options that differ from the defaults, without paths, which are nobody else's business."""
    values, defaults = dataclasses.asdict(options), dataclasses.asdict(PrepareOptions())
    values["read"] = {key: value for key, value in values["read"].items() if value != defaults["read"][key] and key != "items"}
    return {key: value for key, value in values.items() if value != defaults[key] and value != {}}
