"""A log's rows as events: which columns say who, what and when, what is wrong with a row, and what would read it.

Knows nothing of file formats: a reader hands over a table whose cells have their types.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from laserrec.data.advice import Advice
from laserrec.data.columns import candidates, guess, is_index, resolve
from laserrec.data.events import Events
from laserrec.data.ids import numbered
from laserrec.data.kept import Kept, Picked
from laserrec.data.moments import Moments, TimeColumns, why_no_moment
from laserrec.data.options import ReadOptions
from laserrec.data.reading.rows import Rows
from laserrec.data.tables import BadRow
from laserrec.data.values import ids, texts, why_no_id
from laserrec.errors import DataError


class Rowed(Protocol):
    """A table whose columns are known and whose rows can be read, as `laserrec.data.reading.table.Table` is."""

    name: str
    columns: list[str]
    notes: tuple[str, ...]

    def read(self, wanted: Sequence[str], numbers: Collection[str] = ()) -> Rows:
        """Return the rows with some columns."""
        ...


@dataclass(frozen=True)
class Log:
    """The events of a table, and what happened to its rows.

    Attributes:
        events: the usable ones, in the order of the rows, times in microseconds.
        columns: which column was read as what.
        ignored: the others.
        problems: rows that could not be used.
        rows: rows read; of lists that were read entry by entry, entries.
        left_out: rows that `keep` and `min_rating` left out.
        notes: how the table was read where several ways were possible.
        advice: what may be chosen otherwise.
    """

    events: Events
    columns: dict[str, str]
    ignored: tuple[str, ...]
    problems: tuple[BadRow, ...]
    rows: int
    left_out: int
    notes: tuple[str, ...]
    advice: tuple[Advice, ...]


def read_log(table: Rowed, options: ReadOptions) -> Log:
    """Read a table of interactions.

    Args:
        table: the interactions.
        options: columns that were named; the others are found by common names.

    Raises:
        DataError: a column cannot be found, or is named for two things.
    """
    user, item, times = _columns(table, options)
    kept = Kept.of(table.name, table.columns, options)
    wanted = list(dict.fromkeys((user, item, *times.wanted, *kept.columns)))
    numbers = times.moments if options.time_format is None and len(times.wanted) == 1 else ()
    rows = table.read(wanted, numbers)
    picked, unrated = kept.pick(rows)
    left_out = rows.frame.height - picked.frame.height - len(unrated)
    read = rows.read - picked.frame.height
    picked = picked.exploded(item) if options.explode == "item" else picked
    moments = Moments.of(picked.frame, times, options)
    with ThreadPoolExecutor(2) as pool:
        numbers_of = partial(numbered, read=partial(ids, marks=options.null_marks))
        (users, of_user), (items, of_item) = pool.map(numbers_of, (picked.frame[user], picked.frame[item]))
    events = Events(users, items, of_user, of_item, moments.values.fill_null(0).to_numpy())
    sound = (of_user >= 0) & (of_item >= 0)
    if moments.values.null_count():
        sound &= moments.values.is_not_null().to_numpy()
    used = {user, item, *moments.columns, *kept.columns}
    ignored = tuple(name for name in table.columns if name not in used)
    problems, advice = [*rows.bad, *unrated], list(_on_ignored(table, ignored))
    if not sound.all():
        reasons = _Reasons.of(picked, np.flatnonzero(~sound), user, item, moments, options)
        problems = sorted([*problems, *reasons.bad_rows(picked)], key=lambda problem: (problem.file, problem.line))
        advice = [*_on_users(table, user, picked.of_table(np.flatnonzero(of_user < 0)), options), *reasons.advice(options), *advice]
        events = events.take(sound).compact()
    return Log(
        events=events,
        columns={"user": user, "item": item, "time": " and ".join(moments.columns) or "order of the file", **kept.roles},
        ignored=ignored,
        problems=tuple(problems),
        rows=read + picked.frame.height,
        left_out=left_out,
        notes=(moments.how,) if moments.how else (),
        advice=tuple(advice),
    )


def _columns(table: Rowed, options: ReadOptions) -> tuple[str, str, TimeColumns]:
    """Return the columns of users, items and moments; an index is none of them unless it is named."""
    named = [name for name in table.columns if not is_index(name)]
    user = resolve("user", options.user, table.columns if options.user else named, table.name)
    item = resolve("item", options.item, table.columns if options.item else named, table.name)
    times = TimeColumns.among(table.columns if options.time else named, table.name, options)
    if len({user, item, *times.moments}) < 2 + len(times.moments):
        when = times.moments[0] if times.moments else None
        raise DataError(f"{table.name}: user, item and time must be three columns; received {user!r}, {item!r} and {when!r}.")
    return user, item, times


@dataclass(frozen=True)
class _Reasons:
    """What is wrong with rows, each row's first fault, and the values that show it."""

    rows: NDArray[np.int64]
    faults: list[str]
    untimed: list[str]
    marks: list[str]
    lists: int

    @classmethod
    def of(cls, picked: Picked, rows: NDArray[np.int64], user: str, item: str, moments: Moments, options: ReadOptions) -> _Reasons:
        cells: dict[str, list[object]] = {}
        for name in (user, item, *moments.columns):
            column = picked.frame[name].gather(pl.Series(rows))
            # Python cannot hold every date that Polars can.
            cells[name] = (texts(column) if column.dtype.is_temporal() else column).to_list()
        found = cls(rows, [], [], [], 0)
        lists = 0
        for number in range(len(rows)):
            for role, name in (("user", user), ("item", item)):
                why = why_no_id(cells[name][number], options.null_marks)
                if why is not None:
                    found.faults.append(f"no {role} id" if why == "missing" else f"the {role} id is {why}")
                    found.marks.extend([str(cells[name][number])] if "stands for" in why else [])
                    lists += why == "a list"
                    break
            else:
                given = [cells[name][number] for name in moments.columns]
                found.faults.append(why_no_moment(given))
                found.untimed.extend([" ".join(map(str, given))] if any(value is not None for value in given) else [])
        return cls(rows, found.faults, found.untimed, found.marks, lists)

    def bad_rows(self, picked: Picked) -> Iterator[BadRow]:
        return (picked.bad_row(row, fault) for row, fault in zip(self.rows.tolist(), self.faults, strict=True))

    def advice(self, options: ReadOptions) -> Iterator[Advice]:
        """Name the options that would read the rows."""
        if self.untimed:
            text = f"{len(self.untimed):,} moments such as {self.untimed[0][:40]!r} could not be read; say how they are written"
            yield Advice(text, (("time_format", "'%d.%m.%Y %H:%M'"),))
        if self.marks:
            text = f"{len(self.marks):,} ids such as {self.marks[0]!r} stand for a missing value; if they are ids, read them as such"
            yield Advice(text, (("null_marks", "none"),))
        if self.lists and options.explode is None:
            yield Advice(f"{self.lists:,} rows hold a list of items; read them as one event an entry", (("explode", "item"),))


def _on_users(table: Rowed, user: str, without: NDArray[np.int64], options: ReadOptions) -> Iterator[Advice]:
    """Name another column of users that is filled where the chosen one is not."""
    if options.user is not None or not len(without):
        return
    for other in candidates("user", table.columns):
        filled = ids(table.read([other]).frame[other], options.null_marks).is_not_null().to_numpy()
        if other != user and len(filled) > without.max() and filled[without].all():
            text = f"{len(without):,} rows have no {user!r}, and all of them have {other!r}; read that as the user"
            yield Advice(text, (("user", other),))
            return


def _on_ignored(table: Rowed, ignored: Sequence[str]) -> Iterator[Advice]:
    """Point out columns that say which events count."""
    rating, event = guess("rating", ignored), guess("event", ignored)
    if rating is not None:
        yield Advice(f"{table.name}: every row is an event whatever its {rating!r} is; keep those that were liked", (("min_rating", "4"),))
    if event is not None:
        text = f"{table.name}: every row is an event whatever its {event!r} is; keep those of one kind"
        yield Advice(text, (("keep", f"{event}=VALUE"),))
