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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from laserrec.data.events import Events
from laserrec.data.options import ReadOptions
from laserrec.data.raw import RawTables
from laserrec.data.reading.files import file_kind
from laserrec.data.reading.table import Table
from laserrec.data.reading.text import plain_rows
from laserrec.data.sources.tabular import table_items
from laserrec.data.tables import (
    ITEM,
    MICROSECONDS,
    PARTS,
    TITLE,
    USER,
    BadRow,
    SourceFile,
    empty_items,
    event_table,
    tidy_items,
)
from laserrec.data.times import microseconds
from laserrec.errors import DataError

_TITLES = ("title", "movie_title", "name", "item_name")


def read_recbole(source: Path, options: ReadOptions) -> RawTables:
    """Read atomic files; columns of interactions have fixed names.

    Args:
        source: a folder of one dataset's files, or the .inter file to read in it.
        options: `encoding`, and `items`: an .item file, a .text file or any table, to which its columns and `delimiter` apply.

    Raises:
        DataError: files are missing, or lack a column that the format prescribes; another option was given.
    """
    of_items = ("item_id", "title", "attributes", "delimiter") if options.items and file_kind(options.items) else ()
    options.refuse_all_but(("items", "encoding", *of_items), "RecBole's atomic files")
    files, name = _files(source)
    folder, parts = files[0].parent, list(PARTS) if len(files) == 3 else [""]
    tables = [_Atomic.read(file, options.encoding) for file in files]
    stitched = "item_id_list" in tables[0].fields
    if stitched and len(files) == 1:
        raise DataError(f"{files[0]} holds histories, which are stitched together from .train.inter, .valid.inter and .test.inter.")
    events = _sequences(tables) if stitched else _events(tables, parts)
    events, problems, read = _rename(folder, name, events, options.encoding)
    items = _items(folder, name, options)
    return RawTables(
        name=name.lower(),
        format="recbole",
        events=Events.of(events),
        items=items.frame,
        problems=(*(bad for table in tables for bad in table.problems), *problems, *items.problems),
        rows=sum(len(table.rows) + len(table.problems) for table in tables) + items.rows,
        sources=tuple(SourceFile.of(file) for file in [*files, *read, *items.files]),
        columns={
            **{"user": "user_id", "item": "item_id", "time": "timestamp" if "timestamp" in tables[0].fields else "order of the file"},
            **items.columns,
        },
        own_split=len(files) == 3,
        notes=items.notes,
    )


def _files(source: Path) -> tuple[list[Path], str]:
    """Return the files of interactions, one or those of train, valid and test, and the dataset's name, which the others begin with."""
    if source.is_file():
        whole = source.name.removesuffix(".inter")
        name, _, part = whole.rpartition(".")
        divided = [source.with_name(f"{name}.{part}.inter") for part in PARTS]
        if not name or part not in PARTS:
            return [source], whole
        return (divided if all(file.is_file() for file in divided) else [source]), name
    split_files = [_one(source, f"*.{part}.inter") for part in PARTS]
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


@dataclass
class _Atomic:
    """One atomic file: rows as lists of fields, with their lines."""

    file: str
    fields: list[str]
    rows: list[tuple[int, list[str]]]
    problems: list[BadRow]

    @classmethod
    def read(cls, path: Path, encoding: str) -> _Atomic:
        rows = plain_rows(path, "\t", encoding)
        header = next(rows, None)
        fields = [field.split(":")[0].strip() for field in header[1]] if header else []
        if not {"item_id"} <= set(fields) or len(set(fields)) < len(fields):
            raise DataError(
                f"{path} is no atomic file: its first line must name the columns once each, as in 'user_id:token<TAB>item_id:token'; "
                f"received {fields}."
            )
        table = cls(path.name, fields, [], [])
        for line, values in rows:
            if len(values) == len(fields):
                table.rows.append((line, values))
            else:
                table.problems.append(BadRow(path.name, line, f"{len(values)} columns where the header has {len(fields)}"))
        return table

    def column(self, name: str) -> int:
        try:
            return self.fields.index(name)
        except ValueError:
            raise DataError(f"{self.file} has no column {name!r}; it has {', '.join(self.fields)}.") from None


def _events(tables: list[_Atomic], parts: list[str]) -> pl.DataFrame:
    """One event a row; times are the file's, or its order where it has none."""
    users: list[str] = []
    items: list[str] = []
    times: list[int] = []
    named: list[str] = []
    order = 0
    for table, part in zip(tables, parts, strict=True):
        user_at, item_at = table.column("user_id"), table.column("item_id")
        clocks = None
        if "timestamp" in table.fields:
            at = table.column("timestamp")
            clocks = microseconds(pl.Series([row[at] for _, row in table.rows], dtype=pl.String))
        for place, (line, row) in enumerate(table.rows):
            order += MICROSECONDS
            when = order if clocks is None else clocks[place]
            if not row[user_at].strip() or not row[item_at].strip() or when is None:
                table.problems.append(BadRow(table.file, line, _reason(row[user_at], row[item_at])))
                continue
            users.append(row[user_at].strip())
            items.append(row[item_at].strip())
            times.append(when)
            named.append(part)
        bad = {problem.line for problem in table.problems}
        table.rows = [row for row in table.rows if row[0] not in bad]
    return event_table(users, items, times, named if parts[0] else None)


def _reason(user: str, item: str) -> str:
    if not user.strip():
        return "no user id"
    return "no item id" if not item.strip() else "the timestamp is not a number or a date"


def _sequences(tables: list[_Atomic]) -> pl.DataFrame:
    """Stitch each user's sequence from rows of (last items before, next item)."""
    sequences: dict[str, list[str]] = {}
    parts: dict[str, list[str]] = {}
    for table, part in zip(tables, PARTS, strict=True):
        user_at, history_at, item_at = table.column("user_id"), table.column("item_id_list"), table.column("item_id")
        grouped: dict[str, list[tuple[int, list[str], str]]] = {}
        for line, row in table.rows:
            grouped.setdefault(row[user_at].strip(), []).append((line, row[history_at].split(), row[item_at].strip()))
        bad: set[int] = set()
        for user, rows in grouped.items():
            sequence, named = sequences.setdefault(user, []), parts.setdefault(user, [])
            for line, history, item in _oldest_first(rows):
                reason = _extend(sequence, history, item) if user and item and " " not in item else "no user id or no item id"
                if reason:
                    table.problems.append(BadRow(table.file, line, reason))
                    bad.add(line)
                # What stands before valid's or test's first target is history, so it is train's.
                named.extend(["train"] * (len(sequence) - len(named) - 1) + [part] * (len(sequence) > len(named)))
        table.rows = [row for row in table.rows if row[0] not in bad]
    return event_table(
        (user for user, sequence in sequences.items() for _ in sequence),
        (item for sequence in sequences.values() for item in sequence),
        (step * MICROSECONDS for sequence in sequences.values() for step in range(len(sequence))),
        (part for named in parts.values() for part in named),
    )


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
    """Put the ids of `.item2index` and `.user2index` in the place of row numbers."""
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


@dataclass
class _Items:
    """Items of a source, and what is to be told of how they were read."""

    frame: pl.DataFrame
    files: list[Path]
    problems: Sequence[BadRow] = ()
    rows: int = 0
    columns: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def _items(folder: Path, name: str, options: ReadOptions) -> _Items:
    """Read the file that was named, else `NAME.text`, else `NAME.item`."""
    file = options.items or next((file for ending in ("text", "item") if (file := folder / f"{name}.{ending}").is_file()), None)
    if file is None:
        return _Items(empty_items(), [])
    if file_kind(file) is not None:
        problems: list[BadRow] = []
        frame, columns, notes, rows = table_items(Table.open(file, options), ITEM, options, problems)
        return _Items(frame, [file], problems, rows, columns, notes)
    table = _Atomic.read(file, options.encoding)
    rows = len(table.rows) + len(table.problems)
    if file.suffix == ".text":
        note = "texts of the form 'title. category. brand.' were divided into title, brand and category"
        return _Items(_divided(table), [file], table.problems, rows, notes=(note,))
    frame = pl.DataFrame([row for _, row in table.rows], schema=dict.fromkeys(table.fields, pl.String), orient="row")
    title = next((column for column in _TITLES if column in table.fields), None)
    return _Items(tidy_items(frame.rename({title: TITLE}) if title and title != TITLE else frame), [file], table.problems, rows)


def _divided(table: _Atomic) -> pl.DataFrame:
    at = table.column("text")
    texts = divide_texts([row[at] for _, row in table.rows])
    ids = [row[table.column("item_id")].strip() for _, row in table.rows]
    columns = {ITEM: ids, TITLE: [t[0] for t in texts], "brand": [t[2] for t in texts], "category": [t[1] for t in texts]}
    return tidy_items(pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)))


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
