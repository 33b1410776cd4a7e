"""CSV, TSV, JSON lines and Parquet tables, and tables in memory, with any column names."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import polars as pl

from laserrec.data.columns import guess, resolve, told
from laserrec.data.events import Events
from laserrec.data.frames import Frame, Table, Tables
from laserrec.data.ids import stripped
from laserrec.data.options import ReadOptions
from laserrec.data.raw import RawTables
from laserrec.data.rows import Rows, column_names, file_kind, read_fast, read_rows
from laserrec.data.tables import ITEM, MICROSECONDS, TIME, TITLE, USER, BadRow, SourceFile, empty_items, tidy_items
from laserrec.data.times import ACCEPTED, microseconds
from laserrec.errors import DataError

_LINE = "\0line"  # beside columns of any name
TableItems = tuple[pl.DataFrame, dict[str, str], tuple[str, ...], int]  # table, columns, notes, rows read


def read_tabular(source: Path, options: ReadOptions) -> RawTables:
    """Read a table of interactions and, if there is one, a table of items.

    Args:
        source: the file of interactions, or a folder that holds it and perhaps the file of items.
        options: columns that were named; the others are found by common names.

    Raises:
        DataError: files or columns cannot be told apart, a file cannot be read, or an option says nothing about these files.
    """
    events_file, items_file = _files(source, options)
    _refuse_idle(options, events_file, items_file)
    name = (source if source.is_dir() else events_file).name.split(".")[0] or "dataset"
    return _read(name, events_file, items_file, options)


def read_frames(tables: Tables, options: ReadOptions) -> RawTables:
    """Read tables in memory as `read_tabular` reads files; rows are counted from 1.

    Args:
        tables: the interactions, and perhaps the items.
        options: all but `items`, `encoding` and `delimiter` may be given.

    Raises:
        DataError: one of these was given, something is no table, or columns cannot be told apart.
    """
    idle = options.given(("items", "encoding", "delimiter"))
    if idle:
        raise DataError(f"{', '.join(idle)} would be ignored: these are tables in memory, not files. Leave it out; items are Tables.items.")
    events = Frame.of("interactions", tables.interactions)
    items = None if tables.items is None else Frame.of("items", tables.items)
    return replace(_read(tables.name, events, items, options), format="frames")


def _read(name: str, events_file: Table, items_file: Table | None, options: ReadOptions) -> RawTables:
    _refuse_contradictions(options, items_file)
    names = column_names(events_file, options)
    user = resolve("user", options.user, names, events_file.name)
    item = resolve("item", options.item, names, events_file.name)
    time = _time_column(names, events_file, options)
    if len({user, item, time}) < 3:
        raise DataError(f"{events_file.name}: user, item and time must be three columns; received {user!r}, {item!r} and {time!r}.")
    problems: list[BadRow] = []
    item_problems: list[BadRow] = []
    with ThreadPoolExecutor(2) as pool:
        # What needs one core is done while the events, which need two only in parts, are read.
        hashed = [pool.submit(SourceFile.of, file) for file in (events_file, items_file) if isinstance(file, Path)]
        catalogue = pool.submit(table_items, items_file, item, options, item_problems)
        events, rows = _events(events_file, user, item, time, options, problems)
    items, item_columns, notes, item_rows = catalogue.result()
    columns = {"user": user, "item": item, "time": time or "order of the file", **item_columns}
    return RawTables(
        name=name,
        format="table",
        events=events,
        items=items,
        problems=(*problems, *item_problems),
        rows=rows + item_rows,
        sources=tuple(file.result() for file in hashed),
        columns=columns,
        notes=notes,
    )


def event_columns(frame: pl.DataFrame, time_format: str | None) -> pl.DataFrame:
    """Return user, item and moment of rows that were read as they stand; null where one is missing or unreadable.

    Args:
        frame: columns `user_id`, `item_id` and perhaps `timestamp`.
        time_format: see `ReadOptions`.
    """
    ids = [pl.col(name).cast(pl.String).str.strip_chars() for name in (USER, ITEM)]
    events = frame.select(ids).with_columns(pl.when(pl.col(name).str.len_bytes() > 0).then(pl.col(name)) for name in (USER, ITEM))
    return events.with_columns(_moments(frame, time_format))


def _moments(frame: pl.DataFrame, time_format: str | None) -> pl.Series:
    if TIME in frame.columns:
        return microseconds(frame[TIME], time_format)
    return pl.int_range(frame.height, dtype=pl.Int64, eager=True).alias(TIME) * MICROSECONDS


def _sound(frame: pl.DataFrame, time_format: str | None) -> Events | None:
    """Return what `event_columns` would, as numbers, or None where it would hold a null; blanks are looked for among distinct ids."""
    table = frame.select(pl.col(USER, ITEM).cast(pl.String)).with_columns(_moments(frame, time_format))
    if any(table.null_count().row(0)):
        return None
    raw = Events.of(table)
    (users, user), (items, item) = stripped(raw.users, raw.user), stripped(raw.items, raw.item)
    return None if "" in users or "" in items else Events(users, items, user, item, raw.time)


def sound_events(rows: Rows, file: str, time_format: str | None, problems: list[BadRow]) -> pl.DataFrame:
    """Return the usable events of rows read line by line, and report the others."""
    events = event_columns(rows.frame, time_format)
    bad = events.with_columns(pl.Series("line", rows.lines, dtype=pl.Int64), pl.Series("width", rows.widths, dtype=pl.Int64))
    given = rows.frame[TIME].cast(pl.String).alias("given") if TIME in rows.frame.columns else pl.lit(None, pl.String).alias("given")
    bad = bad.with_columns(given)
    bad = bad.filter(pl.any_horizontal(pl.col(USER, ITEM, TIME).is_null()))
    for user, item, _, line, width, moment in bad.iter_rows():
        short = f" ({width} columns where the header has {rows.width})" if width < rows.width else ""
        missing = "no user id" if user is None else "no item id" if item is None else ""
        problems.append(BadRow(file, line, missing + short if missing else _bad_time(moment) + short))
    return events.drop_nulls()


def _bad_time(given: str | None) -> str:
    return f"the time {given[:40]!r} is not {ACCEPTED}" if given and given.strip() else "no time"


def _events(file: Table, user: str, item: str, time: str | None, options: ReadOptions, problems: list[BadRow]) -> tuple[Events, int]:
    wanted = {USER: user, ITEM: item} | ({TIME: time} if time else {})
    fast = read_fast(file, wanted, options, numbers=(TIME,) if options.time_format is None else ())
    events = _sound(fast, options.time_format) if fast is not None else None
    if events is not None:
        return events, len(events)
    rows = read_rows(file, wanted, options, problems)
    return Events.of(sound_events(rows, file.name, options.time_format, problems)), rows.read


def table_items(file: Table | None, item: str, options: ReadOptions, problems: list[BadRow]) -> TableItems:
    """Read a table of items.

    Args:
        file: the table; None for a source without one.
        item: column of the item's id where both tables call it the same.
        options: columns, encoding and delimiter.
        problems: where unusable rows are reported.

    Returns:
        The items, which column was taken for what, notes, and the number of rows read.
    """
    if file is None:
        return empty_items(), {}, ("no table of items: items have no text (give one with --items FILE, or as items of Tables)",), 0
    names = column_names(file, options)
    key, title, others = _item_columns(names, file, item, options)
    wanted = {ITEM: key} | ({TITLE: title} if title else {}) | {_attribute(name): name for name in others}
    rows = read_rows(file, wanted, options, problems, strict=True)
    frame = rows.frame.with_columns(pl.all().cast(pl.String)).with_columns(pl.col(ITEM).str.strip_chars())
    frame = frame.with_columns(pl.Series(_LINE, rows.lines, dtype=pl.Int64))
    usable = pl.col(ITEM).str.len_bytes().fill_null(0) > 0
    problems += [BadRow(file.name, line, "no item id") for line in frame.filter(~usable)[_LINE]]
    frame = frame.filter(usable)
    different = frame.unique([name for name in frame.columns if name != _LINE], keep="first", maintain_order=True)
    notes = (
        (f"{file.name}: {frame.height - different.height:,} rows that repeat another were dropped",)
        if different.height < frame.height
        else ()
    )
    repeated = different.filter(~pl.col(ITEM).is_first_distinct()).select(ITEM, _LINE)
    problems += [BadRow(file.name, line, f"the item id {name!r} occurred before") for name, line in repeated.iter_rows()]
    columns = {"item id": key, "title": title or "none", "attributes": ", ".join(others) or "none"}
    return tidy_items(frame.drop(_LINE)), columns, notes, rows.read


def _item_columns(names: list[str], file: Table, item: str, options: ReadOptions) -> tuple[str, str | None, list[str]]:
    """Return the columns of id, title and further attributes."""
    if options.item_id is not None:
        key: str | None = told(options.item_id, names, "--item-id-column", file.name)
    else:
        key = item if item in names else guess("item", names) or _named_id(names)
    if key is None:
        found = ", ".join(map(repr, names))
        raise DataError(f"{file.name}: cannot tell which column is the item's id; it has {found}. Name it with --item-id-column COLUMN.")
    left = [name for name in names if name and name != key]
    title = told(options.title, names, "--title-column", file.name) if options.title is not None else guess("title", left)
    chosen = left if options.attributes is None else [told(name, names, "--attribute", file.name) for name in options.attributes]
    return key, title, [name for name in dict.fromkeys(chosen) if name not in (key, title)]


def _named_id(names: list[str]) -> str | None:
    return next((name for name in names if name.casefold() == "id"), None)


def _attribute(column: str) -> str:
    name = column.split(":")[0].strip()
    return f"{name}_" if name in (ITEM, TITLE, USER, TIME) else name


def _time_column(names: list[str], file: Table, options: ReadOptions) -> str | None:
    if options.file_order:
        return None
    return resolve("time", options.time, names, file.name, ", or pass --file-order if each user's rows are in order already")


def _refuse_contradictions(options: ReadOptions, items: Table | None) -> None:
    """Refuse options that contradict another, or speak of items that are not there."""
    moments = options.given(("time", "time_format"))
    if options.file_order and moments:
        raise DataError(f"--file-order says that there are no moments, and {moments[0]} what they are. Give one of the two.")
    idle = options.given(("item_id", "title", "attributes")) if items is None else ()
    if idle:
        raise DataError(f"{', '.join(idle)} would be ignored: there is no table of items. Name one with --items FILE, or leave it out.")


def _refuse_idle(options: ReadOptions, events_file: Path, items_file: Path | None) -> None:
    """Refuse options of text files where there is none."""
    kinds = {file_kind(file) for file in (events_file, items_file) if file is not None}
    idle = options.given(("delimiter",)) if not kinds & {"csv", "tsv"} else ()
    idle = idle or (options.given(("encoding",)) if kinds == {"parquet"} else ())
    if idle:
        raise DataError(f"{', '.join(idle)} would be ignored: {events_file.name} is no such text file. Leave it out.")


def _files(source: Path, options: ReadOptions) -> tuple[Path, Path | None]:
    """Return the file of interactions and that of items, told apart by their columns."""
    if source.is_file():
        return source, options.items
    tables = [file for file in sorted(source.iterdir()) if file.is_file() and file_kind(file) is not None and file != options.items]
    events: list[Path] = []
    others: list[Path] = []
    for file in tables:
        names = column_names(file, options)
        user = options.user in names if options.user else guess("user", names) is not None
        item = options.item in names if options.item else guess("item", names) is not None
        (events if user and item else others).append(file)
    if len(events) != 1:
        found = ", ".join(file.name for file in events) or "none"
        raise DataError(
            f"{source} must hold one table of interactions, with a user's and an item's column; found {found} among "
            f"{', '.join(file.name for file in tables) or 'no tables'}. Give the file itself, and name its columns with --user-column and "
            "--item-column."
        )
    if options.items is not None or len(others) == 0:
        return events[0], options.items
    with_id = [file for file in others if guess("item", names := column_names(file, options)) or _named_id(names)]
    if len(with_id) > 1:
        found = ", ".join(file.name for file in with_id)
        raise DataError(f"{source} holds several tables that may be the items: {found}. Choose one with --items FILE.")
    return events[0], with_id[0] if with_id else None
