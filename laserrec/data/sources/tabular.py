"""CSV, TSV, JSON lines and Parquet tables, and tables in memory, with any column names."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import polars as pl

from laserrec.data.columns import guess, resolve, told
from laserrec.data.events import Events
from laserrec.data.ids import stripped
from laserrec.data.options import ReadOptions
from laserrec.data.raw import RawTables
from laserrec.data.reading.files import file_kind, parts_of, tables_in
from laserrec.data.reading.memory import Frame, Tables
from laserrec.data.reading.rows import Rows
from laserrec.data.reading.table import Table
from laserrec.data.tables import ITEM, MICROSECONDS, TIME, TITLE, USER, BadRow, SourceFile, empty_items, tidy_items
from laserrec.data.times import ACCEPTED, microseconds
from laserrec.data.values import as_text
from laserrec.errors import DataError

_ROW = "\0row"  # beside columns of any name
TableItems = tuple[pl.DataFrame, dict[str, str], tuple[str, ...], int]  # table, columns, notes, rows read


def read_tabular(source: Path, options: ReadOptions) -> RawTables:
    """Read a table of interactions and, if there is one, a table of items.

    Args:
        source: the interactions in whatever `Table.open` accepts, or a folder that holds them and perhaps the items, each in one file.
        options: columns that were named; the others are found by common names.

    Raises:
        DataError: files or columns cannot be told apart, a file cannot be read, or an option says nothing about these files.
    """
    events, items = _tables(source, options)
    _refuse_idle(options, [*events.files, *(items.files if items else ())])
    named = source if source.exists() else source.parent  # a pattern is no name
    name = named.name.split(".")[0] or "dataset"
    return _read(name, events, items, options)


def read_frames(tables: Tables, options: ReadOptions) -> RawTables:
    """Read tables in memory as `read_tabular` reads files; rows are counted from 1.

    Args:
        tables: the interactions, and perhaps the items.
        options: all but those of files may be given.

    Raises:
        DataError: one of these was given, something is no table, or columns cannot be told apart.
    """
    idle = options.given(("items", "encoding", "delimiter", "quoting", "max_unpacked_gib"))
    if idle:
        raise DataError(f"{', '.join(idle)} would be ignored: these are tables in memory, not files. Leave it out; items are Tables.items.")
    events = Table.open(Frame("interactions", tables.interactions), options)
    items = None if tables.items is None else Table.open(Frame("items", tables.items), options)
    return replace(_read(tables.name, events, items, options), format="frames")


def _read(name: str, log: Table, catalogue: Table | None, options: ReadOptions) -> RawTables:
    _refuse_contradictions(options, catalogue)
    user = resolve("user", options.user, log.columns, log.name)
    item = resolve("item", options.item, log.columns, log.name)
    time = _time_column(log.columns, log.name, options)
    if len({user, item, time}) < 3:
        raise DataError(f"{log.name}: user, item and time must be three columns; received {user!r}, {item!r} and {time!r}.")
    problems: list[BadRow] = []
    item_problems: list[BadRow] = []
    with ThreadPoolExecutor(2) as pool:
        # What needs one core is done while the events, which need two only in parts, are read.
        hashed = [pool.submit(SourceFile.of, file) for file in (*log.files, *(catalogue.files if catalogue else ()))]
        texts = pool.submit(table_items, catalogue, item, options, item_problems)
        events, rows = _events(log, user, item, time, options, problems)
    items, item_columns, notes, item_rows = texts.result()
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
        notes=(*log.notes, *notes),
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


def sound_events(rows: Rows, time_format: str | None, problems: list[BadRow]) -> pl.DataFrame:
    """Return the usable events of rows, whose columns are `user_id`, `item_id` and perhaps `timestamp`, and report the others."""
    problems += rows.bad
    events = event_columns(rows.frame, time_format)
    unusable = events.select(pl.any_horizontal(pl.all().is_null())).to_series().arg_true()
    given = rows.frame[TIME].cast(pl.String) if TIME in rows.frame.columns else None
    for row in unusable:
        user, item = events[USER][row], events[ITEM][row]
        missing = "no user id" if user is None else "no item id" if item is None else _bad_time(None if given is None else given[row])
        problems.append(rows.bad_row(row, missing))
    return events.drop_nulls()


def _bad_time(given: str | None) -> str:
    return f"the time {given[:40]!r} is not {ACCEPTED}" if given and given.strip() else "no time"


def _events(log: Table, user: str, item: str, time: str | None, options: ReadOptions, problems: list[BadRow]) -> tuple[Events, int]:
    wanted = {user: USER, item: ITEM} | ({time: TIME} if time else {})
    rows = log.read(list(wanted), numbers=(time,) if time and options.time_format is None else ())
    rows = replace(rows, frame=rows.frame.select(plain(column) for column in rows.frame).rename(wanted))
    events = None if rows.bad else _sound(rows.frame, options.time_format)
    return events or Events.of(sound_events(rows, options.time_format, problems)), rows.read


def plain(values: pl.Series) -> pl.Series:
    """Return a column without Python's objects, and whole numbers where all floats are whole."""
    if values.dtype == pl.Object:
        return pl.Series(values.name, [as_text(value) for value in values.to_list()], dtype=pl.String)
    if values.dtype == pl.Float64:
        values = values.fill_nan(None)
        whole = ((values == values.floor()) & (values.abs() < 2**53)).all()
        return values.cast(pl.Int64) if whole else values
    return values


def table_items(table: Table | None, item: str, options: ReadOptions, problems: list[BadRow]) -> TableItems:
    """Read a table of items.

    Args:
        table: the table; None for a source without one.
        item: column of the item's id where both tables call it the same.
        options: columns, encoding and delimiter.
        problems: where unusable rows are reported.

    Returns:
        The items, which column was taken for what, notes, and the number of rows read.
    """
    if table is None:
        return empty_items(), {}, ("no table of items: items have no text (give one with --items FILE, or as items of Tables)",), 0
    key, title, others = _item_columns(table.columns, table.name, item, options)
    wanted = {key: ITEM} | ({title: TITLE} if title else {}) | {name: _attribute(name) for name in others}
    rows = table.read(list(wanted))
    problems += rows.bad
    texts = [plain(column).cast(pl.String).alias(wanted[column.name]) for column in rows.frame]
    frame = pl.DataFrame(texts).with_columns(pl.col(ITEM).str.strip_chars()).with_row_index(_ROW)
    usable = pl.col(ITEM).str.len_bytes().fill_null(0) > 0
    problems += [rows.bad_row(row, "no item id") for row in frame.filter(~usable)[_ROW]]
    frame = frame.filter(usable)
    different = frame.unique([name for name in frame.columns if name != _ROW], keep="first", maintain_order=True)
    repeats = frame.height - different.height
    notes = (*table.notes, *((f"{table.name}: {repeats:,} rows that repeat another were dropped",) if repeats else ()))
    repeated = different.filter(~pl.col(ITEM).is_first_distinct()).select(ITEM, _ROW)
    problems += [rows.bad_row(row, f"the item id {name!r} occurred before") for name, row in repeated.iter_rows()]
    columns = {"item id": key, "title": title or "none", "attributes": ", ".join(others) or "none"}
    return tidy_items(frame.drop(_ROW)), columns, notes, rows.read


def _item_columns(names: list[str], file: str, item: str, options: ReadOptions) -> tuple[str, str | None, list[str]]:
    """Return the columns of id, title and further attributes."""
    if options.item_id is not None:
        key: str | None = told(options.item_id, names, "--item-id-column", file)
    else:
        key = item if item in names else guess("item", names) or _named_id(names)
    if key is None:
        found = ", ".join(map(repr, names))
        raise DataError(f"{file}: cannot tell which column is the item's id; it has {found}. Name it with --item-id-column COLUMN.")
    left = [name for name in names if name and name != key]
    title = told(options.title, names, "--title-column", file) if options.title is not None else guess("title", left)
    chosen = left if options.attributes is None else [told(name, names, "--attribute", file) for name in options.attributes]
    return key, title, [name for name in dict.fromkeys(chosen) if name not in (key, title)]


def _named_id(names: list[str]) -> str | None:
    return next((name for name in names if name.casefold() == "id"), None)


def _attribute(column: str) -> str:
    name = column.split(":")[0].strip()
    return f"{name}_" if name in (ITEM, TITLE, USER, TIME) else name


def _time_column(names: list[str], file: str, options: ReadOptions) -> str | None:
    if options.file_order:
        return None
    return resolve("time", options.time, names, file, ", or pass --file-order if each user's rows are in order already")


def _refuse_contradictions(options: ReadOptions, items: Table | None) -> None:
    """Refuse options that contradict another, or speak of items that are not there."""
    moments = options.given(("time", "time_format"))
    if options.file_order and moments:
        raise DataError(f"--file-order says that there are no moments, and {moments[0]} what they are. Give one of the two.")
    idle = options.given(("item_id", "title", "attributes")) if items is None else ()
    if idle:
        raise DataError(f"{', '.join(idle)} would be ignored: there is no table of items. Name one with --items FILE, or leave it out.")


def _refuse_idle(options: ReadOptions, files: Sequence[Path]) -> None:
    """Refuse options of text files where there is none."""
    kinds = {file_kind(file) for file in files}
    idle = options.given(("delimiter", "quoting")) if not kinds & {"csv", "tsv"} else ()
    idle = idle or (options.given(("encoding",)) if kinds == {"parquet"} else ())
    if idle:
        raise DataError(f"{', '.join(idle)} would be ignored: {files[0].name} is no such text file. Leave it out.")


def _tables(source: Path, options: ReadOptions) -> tuple[Table, Table | None]:
    """Open the interactions and the items; in a folder of several tables they are told apart by their columns."""
    items = None if options.items is None else Table.open(options.items, options)
    if parts_of(source) is not None:
        return Table.open(source, options), items
    tables = [Table.open(file, options) for file in tables_in(source) if file != options.items]
    events: list[Table] = []
    others: list[Table] = []
    for table in tables:
        names = table.columns
        user = options.user in names if options.user else guess("user", names) is not None
        item = options.item in names if options.item else guess("item", names) is not None
        (events if user and item else others).append(table)
    if len(events) != 1:
        found = ", ".join(table.name for table in events) or "none"
        raise DataError(
            f"{source} must hold one table of interactions, with a user's and an item's column; found {found} among "
            f"{', '.join(table.name for table in tables) or 'no tables'}. Give the file itself, or a pattern such as "
            f"'{source.name}/*.csv' for several files that are one table; name columns with --user-column and --item-column."
        )
    if items is not None or not others:
        return events[0], items
    with_id = [table for table in others if guess("item", table.columns) or _named_id(table.columns)]
    if len(with_id) > 1:
        found = ", ".join(table.name for table in with_id)
        raise DataError(f"{source} holds several tables that may be the items: {found}. Choose one with --items FILE.")
    return events[0], with_id[0] if with_id else None
