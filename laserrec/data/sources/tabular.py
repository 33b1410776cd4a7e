"""CSV, TSV, JSON lines and Parquet tables, and tables in memory, with any column names."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl

from laserrec.data.columns import LogColumns, attribute_names, guess, guess_item_id, item_columns
from laserrec.data.logs import read_log
from laserrec.data.options import ReadOptions
from laserrec.data.raw import Items, RawTables
from laserrec.data.reading.files import TableFile, tables_in
from laserrec.data.reading.memory import Frame, Tables
from laserrec.data.reading.rows import AnyTable
from laserrec.data.reading.table import Table
from laserrec.data.tables import ITEM, TIME, TITLE, USER, SourceFile, empty_items, one_row_each, repeated
from laserrec.data.values import ids, texts, why_no_id
from laserrec.errors import DataError

_ROW = "\0row"  # beside columns of any name


def read_tabular(source: Path, files: Sequence[TableFile] | None, options: ReadOptions) -> RawTables:
    """Read a table of interactions and, if there is one, a table of items.

    Args:
        source: where the files lie.
        files: those of the interactions; None for a folder that holds them and perhaps the items, each in one file.
        options: columns that were named; the others are found by common names.

    Raises:
        DataError: files or columns cannot be told apart, a file cannot be read, or an option says nothing about these files.
    """
    items = None if options.items is None else Table.open(options.items, options)
    if files is None:
        log, items = _log_and_items(source, items, options)
    else:
        log = Table(source.name, files, options)
    opened = [*log.files, *(items.files if items else ())]
    kinds = {file.kind for file in opened}
    idle = () if kinds & {"csv", "tsv"} else ("delimiter", "quoting")
    idle = (*idle, "encoding") if kinds == {"parquet"} else idle
    options.refuse(idle, f"{log.files[0].path.name} is no such text file. Leave it out.")
    named = source if source.exists() else source.parent  # a pattern is no name
    return _read(named.name.split(".")[0] or "dataset", "table", log, items, [file.path for file in opened], options)


def read_frames(tables: Tables, options: ReadOptions) -> RawTables:
    """Read tables in memory as `read_tabular` reads files; rows are counted from 1.

    Args:
        tables: the interactions, and perhaps the items.
        options: all but those of files may be given.

    Raises:
        DataError: one of these was given, something is no table, or columns cannot be told apart.
    """
    idle = ("items", "encoding", "delimiter", "quoting", "max_unpacked_gib")
    options.refuse(idle, "these are tables in memory, not files. Leave it out; items are Tables.items.")
    items = None if tables.items is None else Frame("items", tables.items)
    return _read(tables.name, "frames", Frame("interactions", tables.interactions), items, (), options)


def _read(name: str, form: str, log: AnyTable, items: AnyTable | None, files: Sequence[Path], options: ReadOptions) -> RawTables:
    if items is None:
        options.refuse(("item_id", "title", "attributes"), "there is no table of items. Name one as items, or leave it out.")
    columns = LogColumns.of(log.name, log.columns, options)
    with ThreadPoolExecutor(2) as pool:
        # What needs one core is done while the events, which need two only in parts, are read.
        hashes = pool.map(SourceFile.of, files)
        catalogue = pool.submit(table_items, items, columns.item, options)
        events = read_log(log, columns, options)
    return RawTables.of(name, form, events, catalogue.result(), hashes)


def table_items(table: AnyTable | None, item: str, options: ReadOptions, *, may_repeat: bool = False) -> Items:
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
        return Items(empty_items(), notes=("no table of items: items have no text (give one as items)",))
    key, title, attributes = item_columns(table.name, table.columns, item, options)
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
        rows=rows.frame.height + len(rows.bad),
        columns={"item id": key, "title": title or "none", "attributes": ", ".join(attributes) or "none"},
        notes=(*table.notes, *notes),
        ignored={table.name: tuple(name for name in table.columns if name not in names)},
    )


def _log_and_items(folder: Path, items: Table | None, options: ReadOptions) -> tuple[Table, Table | None]:
    """Open the tables in a folder; interactions and items are told apart by their columns.

    Args:
        folder: holds them.
        items: the items, if they were named.
        options: columns that were named, and how files are read.
    """
    tables = [Table(file.path.name, [file], options) for file in tables_in(folder) if file.path != options.items]
    logs: list[Table] = []
    others: list[Table] = []
    for table in tables:
        user = options.user in table.columns if options.user else guess("user", table.columns) is not None
        item = options.item in table.columns if options.item else guess("item", table.columns) is not None
        (logs if user and item else others).append(table)
    if len(logs) != 1:
        found = ", ".join(table.name for table in logs) or "none"
        raise DataError(
            f"{folder} must hold one table of interactions, with a user's and an item's column; found {found} among "
            f"{', '.join(table.name for table in tables) or 'no tables'}. Give the file itself, or a pattern such as "
            f"'{folder.name}/*.csv' for several files that are one table; name the columns of users and items.",
            parameters=["user", "item"],
        )
    if items is not None:
        return logs[0], items
    with_id = [table for table in others if guess_item_id(table.columns)]
    if len(with_id) > 1:
        found = ", ".join(table.name for table in with_id)
        raise DataError(f"{folder} holds several tables that may be the items: {found}. Choose one.", parameters=["items"])
    return logs[0], with_id[0] if with_id else None
