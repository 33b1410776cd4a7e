"""RecBole's atomic files, in both shapes.

- One `NAME.inter` and one `NAME.item`, tab-separated, headers `field:type`.
- A benchmark split: `NAME.train.inter`, `NAME.valid.inter` and `NAME.test.inter`. Rows either hold one event each, or UniSRec's
  augmented form, `user_id`, `item_id_list` (the history, cut to the last 50) and `item_id` (what came next): then a user's sequence is
  stitched from overlapping rows. Beside them `NAME.text` (`item_id`, "title. category. brand. ") and `NAME.item2index`,
  `NAME.user2index`, which say which ids the row numbers stand for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import polars as pl

from laserrec.data.columns import LogColumns, guess, listed, untyped
from laserrec.data.events import Events
from laserrec.data.logs import Log, read_log
from laserrec.data.options import ReadOptions
from laserrec.data.raw import Items, RawTables
from laserrec.data.reading.files import file_kind
from laserrec.data.reading.plain import PlainTable, plain_rows
from laserrec.data.reading.table import Table
from laserrec.data.sources.tabular import table_items
from laserrec.data.tables import (
    EVENT_TYPES,
    ITEM,
    MICROSECONDS,
    SPLIT,
    SPLIT_TYPE,
    SPLITS,
    TIME,
    TITLE,
    USER,
    BadRow,
    SourceFile,
    empty_items,
    repeated,
    tidy_items,
)
from laserrec.errors import DataError

_HONOURED = ("items", "encoding", "user", "item", "time", "time_format", "file_order", "clock", "keep", "min_rating", "null_marks")


def read_recbole(source: Path, options: ReadOptions) -> RawTables:
    """Read atomic files, whatever their fields are called, as RecBole's own converted data sets name them (`artist_id`, `visitor_id`).

    Args:
        source: a folder of one dataset's files, or the .inter file to read in it.
        options: those of columns, times and null marks; `encoding`; and `items`: an .item file, a .text file or any table, to which its
            columns and `delimiter` apply.

    Raises:
        DataError: files are missing, or columns cannot be told apart; another option was given.
    """
    of_items = ("item_id", "title", "attributes", "delimiter", "quoting") if options.items and file_kind(options.items) else ()
    options.refuse_all_but((*_HONOURED, *of_items), "RecBole's atomic files")
    files, name = _files(source)
    folder = files[0].parent
    tables = [_atomic(file, options.encoding) for file in files]
    stitched = "item_id_list" in tables[0].columns
    if stitched and len(files) == 1:
        raise DataError(f"{files[0]} holds histories, which are stitched together from .train.inter, .valid.inter and .test.inter.")
    events, log = _stitched(tables, options) if stitched else _events(tables, options)
    events, problems, read = _rename(folder, name, events, options.encoding)
    items, item_files = _items(folder, name, log.columns["item"], options)
    log = replace(log, events=Events.of(events), problems=(*log.problems, *problems))
    sources = (SourceFile.of(file) for file in [*files, *read, *item_files])
    return RawTables.of(name.lower(), "recbole", log, items, sources, own_split=len(files) == 3)


def _files(source: Path) -> tuple[list[Path], str]:
    """Return the files of interactions, one or those of train, valid and test, and the dataset's name, which the others begin with."""
    if source.is_file():
        whole = source.name.removesuffix(".inter")
        name, _, split = whole.rpartition(".")
        divided = [source.with_name(f"{name}.{split}.inter") for split in SPLITS]
        if not name or split not in SPLITS:
            return [source], whole
        return (divided if all(file.is_file() for file in divided) else [source]), name
    split_files = [_one(source, f"*.{split}.inter") for split in SPLITS]
    whole_files = [file for file in sorted(source.glob("*.inter")) if file not in split_files]
    if all(split_files):
        files = [file for file in split_files if file]
    elif len(whole_files) == 1:
        files = whole_files
    else:
        raise DataError(
            f"{source} holds neither one .inter file nor .train.inter, .valid.inter and .test.inter; found {_names(source)}. "
            "Give the .inter file itself."
        )
    return _files(files[0]) if len(files) == 1 else (files, files[0].name.removesuffix(".train.inter"))


def _atomic(path: Path, encoding: str) -> PlainTable:
    """Open a file whose header names fields with their types.

    Raises:
        DataError: it cannot be read, or its first line does not name the columns once each.
    """
    rows = plain_rows(path, "\t", encoding)
    _, header = next(rows, (0, []))
    columns = [untyped(field) for field in header]
    if not all(columns) or len(set(columns)) < len(columns) or len(columns) < 2:
        raise DataError(
            f"{path} is no atomic file: its first line must name the columns once each, as in 'user_id:token<TAB>item_id:token'; "
            f"received {listed(columns)}."
        )
    return PlainTable(path.name, columns, rows)


def _events(tables: list[PlainTable], options: ReadOptions) -> tuple[pl.DataFrame, Log]:
    """Read one event a row; the order of the file stands for the moments where no column says them."""
    notes: tuple[str, ...] = ()
    said = options.file_order or (options.time, options.time_format, options.clock) != (None, None, None)
    if not said and guess("time", tables[0].columns) is None:
        options = replace(options, file_order=True)
        notes = (f"{tables[0].name}: no column says when, so each user's events are in the order of the file",)
    logs = [read_log(table, LogColumns.of(table.name, table.columns, options), options) for table in tables]
    frames = []
    start = 1
    for log, split in zip(logs, SPLITS if len(logs) == 3 else [None], strict=True):
        frame = log.events.frame()
        if options.file_order:
            frame = frame.with_columns(pl.col(TIME) + start * MICROSECONDS)
            start += log.rows  # a split's steps go on where those of the split before ended
        frames.append(frame if split is None else frame.with_columns(pl.lit(split, SPLIT_TYPE).alias(SPLIT)))
    return pl.concat(frames), replace(
        logs[0],
        problems=tuple(bad for log in logs for bad in log.problems),
        rows=sum(log.rows for log in logs),
        left_out=sum(log.left_out for log in logs),
        notes=(*notes, *dict.fromkeys(note for log in logs for note in log.notes)),
        advice=tuple(dict.fromkeys(advice for log in logs for advice in log.advice)),
    )


def _stitched(tables: list[PlainTable], options: ReadOptions) -> tuple[pl.DataFrame, Log]:
    """Stitch each user's sequence from rows that hold a history and what came next."""
    idle = ("user", "item", "time", "time_format", "file_order", "clock", "keep", "min_rating")
    options.refuse(idle, f"{tables[0].name} holds histories, whose fields are fixed. Leave it out.")
    rows = sum(len(table.rows) + len(table.problems) for table in tables)
    events = _sequences(tables)
    columns = {"user": "user_id", "item": "item_id", "time": "order of the file"}
    problems = tuple(bad for table in tables for bad in table.problems)
    return events, Log(tables[0].name, Events.of(events), columns, problems, rows)


def _sequences(tables: list[PlainTable]) -> pl.DataFrame:
    """Stitch each user's sequence from rows of (last items before, next item)."""
    sequences: dict[str, list[str]] = {}
    splits: dict[str, list[str]] = {}
    for table, split in zip(tables, SPLITS, strict=True):
        columns = (table.column(name) for name in ("user_id", "item_id_list", "item_id"))
        grouped: dict[str, list[tuple[int, list[str], str]]] = {}
        for (line, _), user, history, item in zip(table.rows, *columns, strict=True):
            grouped.setdefault(user.strip(), []).append((line, history.split(), item.strip()))
        for user, rows in grouped.items():
            sequence, named = sequences.setdefault(user, []), splits.setdefault(user, [])
            for line, history, item in _oldest_first(rows):
                reason = _extend(sequence, history, item) if user and item and " " not in item else "no user id or no item id"
                if reason:
                    table.problems.append(BadRow(table.name, line, reason))
                # What stands before valid's or test's first target is history, so it is train's.
                named.extend(["train"] * (len(sequence) - len(named) - 1) + [split] * (len(sequence) > len(named)))
    events = [
        (user, item, step * MICROSECONDS, split)
        for user, sequence in sequences.items()
        for step, (item, split) in enumerate(zip(sequence, splits[user], strict=True))
    ]
    return pl.DataFrame(events, schema=EVENT_TYPES, orient="row")


def _oldest_first(rows: list[tuple[int, list[str], str]]) -> list[tuple[int, list[str], str]]:
    """Order a user's rows by the length of their history; equally long ones (cut histories) by the file's direction."""
    falling = len(rows) > 1 and len(rows[0][1]) >= len(rows[-1][1]) and len(rows[0][1]) > len(rows[-1][1])
    if len(rows) > 1 and len(rows[0][1]) == len(rows[-1][1]):
        falling = rows[0][1][:-1] == rows[1][1][1:]
    return sorted(reversed(rows) if falling else rows, key=lambda row: len(row[1]))


def _extend(sequence: list[str], history: list[str], item: str) -> str | None:
    """Add a row's items to what is known of a user's sequence, or return what contradicts it."""
    if len(history) >= len(sequence):
        if history[: len(sequence)] != sequence:
            return "its history contradicts the user's other rows"
        sequence.extend(history[len(sequence) :])
    elif not history or sequence[-len(history) :] != history:
        return "its history contradicts the user's other rows"
    sequence.append(item)
    return None


def _rename(folder: Path, name: str, events: pl.DataFrame, encoding: str) -> tuple[pl.DataFrame, tuple[BadRow, ...], list[Path]]:
    """Replace row numbers by the ids of `.item2index` and `.user2index`."""
    read: list[Path] = []
    problems: list[BadRow] = []
    for column, ending in ((USER, "user2index"), (ITEM, "item2index")):
        file = folder / f"{name}.{ending}"
        if not file.is_file():
            continue
        names, bad = _index(file, encoding)
        read.append(file)
        problems += bad
        unknown = events.filter(~pl.col(column).is_in(list(names)))
        if unknown.height:
            raise DataError(
                f"{file.name} has no id for {unknown.height} events, the first with number {unknown[column][0]!r}; "
                "the files do not belong together."
            )
        events = events.with_columns(pl.col(column).replace_strict(names, return_dtype=pl.String))
    return events, tuple(problems), read


def _index(file: Path, encoding: str) -> tuple[dict[str, str], list[BadRow]]:
    names: dict[str, str] = {}
    problems: list[BadRow] = []
    for line, row in plain_rows(file, "\t", encoding):
        if len(row) != 2 or not row[0].strip():
            problems.append(BadRow(file.name, line, "expected an id, a tab and a number"))
        elif row[1].strip() in names:
            raise DataError(f"{file.name}:{line}: the number {row[1].strip()!r} occurs twice.")
        else:
            names[row[1].strip()] = row[0].strip()
    if len(set(names.values())) < len(names):
        raise DataError(f"{file.name} gives the same id two numbers.")
    return names, problems


def _items(folder: Path, name: str, item: str, options: ReadOptions) -> tuple[Items, list[Path]]:
    """Read the file that was named, else `NAME.text`, else `NAME.item`."""
    file = options.items or next((file for ending in ("text", "item") if (file := folder / f"{name}.{ending}").is_file()), None)
    if file is None:
        return Items(empty_items(), notes=("no file of items: items have no text",)), []
    if file_kind(file) is not None:
        return table_items(Table.open(file, options), item, options), [file]
    table = _atomic(file, options.encoding)
    if file.suffix != ".text":
        return table_items(table, item, options, may_repeat=True), [file]
    rows = list(zip(table.rows, table.column("item_id"), table.column("text"), strict=True))
    named = [(name.strip(), text) for _, name, text in rows if name.strip()]
    problems = [*table.problems, *(BadRow(file.name, line, "no item id") for (line, _), name, _ in rows if not name.strip())]
    divided = divide_texts(text for _, text in named)
    found = [(name, title, brand, category) for (name, _), (title, category, brand) in zip(named, divided, strict=True)]
    frame = tidy_items(pl.DataFrame(found, schema=dict.fromkeys((ITEM, TITLE, "brand", "category"), pl.String), orient="row"))
    note = "texts of the form 'title. category. brand.' were divided into title, brand and category"
    notes = (note, *repeated(file.name, len(found), frame))
    return Items(frame, problems, len(rows) + len(table.problems), notes=notes), [file]


def divide_texts(texts: Iterable[str]) -> list[tuple[str, str | None, str | None]]:
    """Divide UniSRec's "title. category. brand. " into its three parts.

    Titles and brands may hold full stops, so the category is found by its first two words, which a whole catalogue shares; a text
    where it cannot be found stays whole, as a title.

    Returns:
        (title, category, brand) for each text.
    """
    texts = [text.strip() for text in texts]
    middles = Counter(" ".join(pieces[-2].split()[:2]) for pieces in (text.split(". ") for text in texts) if len(pieces) >= 3)
    root = next((start for start, _ in middles.most_common() if start), None)
    if root is None:
        return [(text, None, None) for text in texts]
    shape = re.compile(rf"(?P<title>.+?)\. (?P<category>{re.escape(root)}.*?|)\. ?(?P<brand>.*?)\.?", re.DOTALL)
    matches = ((text, shape.fullmatch(text)) for text in texts)
    return [(found["title"], found["category"] or None, found["brand"] or None) if found else (text, None, None) for text, found in matches]


def _one(folder: Path, pattern: str) -> Path | None:
    found = sorted(folder.glob(pattern))
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise DataError(f"{folder} holds more than one {pattern}: {names}. Put each dataset into its own folder.")
    return found[0] if found else None


def _names(folder: Path) -> str:
    return ", ".join(sorted(file.name for file in folder.iterdir())[:12]) or "nothing"
