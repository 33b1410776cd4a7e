"""CSV, TSV, JSON lines and Parquet tables, and tables in memory, with any column names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from laserrec.data.columns import attribute_names, guess, is_index, listed, plain_name, told
from laserrec.data.logs import Rowed, read_log
from laserrec.data.options import ReadOptions
from laserrec.data.raw import RawTables
from laserrec.data.reading.files import file_kind, parts_of, tables_in
from laserrec.data.reading.memory import Frame, Tables
from laserrec.data.reading.table import Table
from laserrec.data.tables import ITEM, TIME, TITLE, USER, BadRow, SourceFile, empty_items, one_row_each, repeated
from laserrec.data.values import ids, texts, why_no_id
from laserrec.errors import DataError

_ROW = "\0row"  # beside columns of any name


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
    with ThreadPoolExecutor(2) as pool:
        # What needs one core is done while the events, which need two only in parts, are read.
        hashed = [pool.submit(SourceFile.of, file) for file in (*log.files, *(catalogue.files if catalogue else ()))]
        item = options.item or guess("item", log.columns) or ITEM
        texts = pool.submit(table_items, catalogue, item, options)
        events = read_log(log, options)
    items = texts.result()
    return RawTables(
        name=name,
        format="table",
        events=events.events,
        items=items.frame,
        problems=(*events.problems, *items.problems),
        rows=events.rows + items.rows,
        sources=tuple(file.result() for file in hashed),
        columns={**events.columns, **items.columns},
        notes=(*log.notes, *events.notes, *items.notes),
        ignored={table: names for table, names in ((log.name, events.ignored), *items.ignored.items()) if names},
        left_out=events.left_out,
        advice=events.advice,
    )


@dataclass(frozen=True)
class Items:
    """Items of a source, and what is to be said of how they were read.

    Attributes:
        frame: `item_id`, `title` and further attributes.
        problems: rows that could not be used.
        rows: rows read.
        columns: which column was read as what.
        notes: what a user should know.
        ignored: columns of the table that were not read.
    """

    frame: pl.DataFrame
    problems: Sequence[BadRow] = ()
    rows: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    ignored: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def table_items(table: Rowed | None, item: str, options: ReadOptions, *, may_repeat: bool = False) -> Items:
    """Read a table of items.

    Args:
        table: the table; None for a source without one.
        item: column of the item's id where both tables call it the same.
        options: columns and null marks.
        may_repeat: an id that occurs again with other words is left out and counted; otherwise it is a bad row.

    Raises:
        DataError: a column cannot be found.
    """
    if table is None:
        return Items(empty_items(), notes=("no table of items: items have no text (give one with --items FILE, or as items of Tables)",))
    key, title, attributes = _item_columns(table.columns, table.name, item, options)
    names = {key: ITEM} | ({title: TITLE} if title else {}) | attribute_names(attributes, (ITEM, TITLE, USER, TIME))
    rows = table.read(list(names))
    read = {names[name]: rows.frame[name] for name in names}
    others = {name: texts(values, options.null_marks).alias(name) for name, values in read.items() if name != ITEM}
    frame = pl.DataFrame([ids(read[ITEM], options.null_marks).alias(ITEM), *others.values()]).with_row_index(_ROW)
    problems = list(rows.bad)
    for row in frame[ITEM].is_null().arg_true():
        why = why_no_id(read[ITEM][row], options.null_marks) or "missing"
        problems.append(rows.bad_row(row, "no item id" if why == "missing" else f"the item id is {why}"))
    frame = frame.drop_nulls(ITEM)
    different = frame.unique([name for name in frame.columns if name != _ROW], keep="first", maintain_order=True)
    repeats = frame.height - different.height
    notes = (f"{table.name}: {repeats:,} rows that repeat another were dropped",) if repeats else ()
    items = one_row_each(different.drop(_ROW))
    if may_repeat:
        notes = (*notes, *repeated(table.name, different.height, items))
    else:
        again = different.filter(~pl.col(ITEM).is_first_distinct()).select(ITEM, _ROW)
        problems += [rows.bad_row(row, f"the item id {name!r} occurred before") for name, row in again.iter_rows()]
    return Items(
        frame=items,
        problems=problems,
        rows=rows.read,
        columns={"item id": key, "title": title or "none", "attributes": ", ".join(attributes) or "none"},
        notes=(*table.notes, *notes),
        ignored={table.name: tuple(name for name in table.columns if name not in names)},
    )


def _item_columns(columns: list[str], file: str, item: str, options: ReadOptions) -> tuple[str, str | None, list[str]]:
    """Return the columns of id, title and further attributes; an index is none of them unless it is named."""
    names = [name for name in columns if not is_index(name)]
    if options.item_id is not None:
        key: str | None = told(options.item_id, columns, "--item-id-column", file)
    else:
        key = item if item in names else guess("item", names) or _named_id(names)
    if key is None:
        raise DataError(
            f"{file}: cannot tell which column is the item's id; it has {listed(columns)}. Name it with --item-id-column COLUMN."
        )
    left = [name for name in names if name != key]
    title = told(options.title, columns, "--title-column", file) if options.title is not None else guess("title", left)
    chosen = left if options.attributes is None else [told(name, columns, "--attribute", file) for name in options.attributes]
    return key, title, [name for name in dict.fromkeys(chosen) if name not in (key, title)]


def _named_id(names: list[str]) -> str | None:
    return next((name for name in names if plain_name(name) == "id"), None)


def _refuse_contradictions(options: ReadOptions, items: Table | None) -> None:
    """Refuse options that contradict another, or speak of items that are not there."""
    moments = options.given(("time", "time_format", "clock"))
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
