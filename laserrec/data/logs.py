"""A log's rows as events: which columns say who, what and when, what is wrong with a row, and what would read it.

Knows nothing of file formats: a reader hands over a table whose cells have their types.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from laserrec.data.advice import Advice
from laserrec.data.columns import LogColumns, candidates, guess
from laserrec.data.events import Events
from laserrec.data.ids import numbered
from laserrec.data.kept import exploded, pick
from laserrec.data.moments import Moments, why_no_moment
from laserrec.data.options import ReadOptions
from laserrec.data.reading.rows import AnyTable, Rows
from laserrec.data.tables import BadRow
from laserrec.data.values import ids, texts, why_no_id


@dataclass(frozen=True)
class Log:
    """The events of a table, and what happened to its rows.

    Attributes:
        table: its name.
        events: the usable ones, in the order of the rows, times in microseconds.
        columns: which column was read as what.
        ignored: the others.
        problems: rows that could not be used.
        rows: rows read; of lists that were read entry by entry, entries.
        left_out: rows that `keep` and `min_rating` left out.
        notes: how the table was read where several ways were possible.
        advice: what may be chosen otherwise.
    """

    table: str
    events: Events
    columns: dict[str, str]
    problems: tuple[BadRow, ...]
    rows: int
    notes: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    left_out: int = 0
    advice: tuple[Advice, ...] = ()


def read_log(table: AnyTable, columns: LogColumns, options: ReadOptions) -> Log:
    """Read a table of interactions.

    Args:
        table: the interactions.
        columns: which of its columns to read as what.
        options: how values are read, and which rows are kept.

    Raises:
        DataError: the table cannot be read, or an option does not suit what it holds.
    """
    wanted = list(dict.fromkeys((columns.user, columns.item, *columns.times, *columns.conditions)))
    numbers = columns.moments if options.time_format is None and len(columns.times) == 1 else ()
    rows = table.read(wanted, numbers)
    kept, unrated = pick(rows, columns, options.min_rating or 0.0)
    left_out = rows.frame.height - kept.frame.height - len(unrated)
    entries = exploded(kept, columns.item) if options.explode == "item" else kept
    moments = Moments.of(entries.frame, columns, options)
    with ThreadPoolExecutor(2) as pool:
        numbers_of = partial(numbered, read=partial(ids, marks=options.null_marks))
        (users, of_user), (items, of_item) = pool.map(numbers_of, (entries.frame[columns.user], entries.frame[columns.item]))
    events = Events(users, items, of_user, of_item, moments.values.fill_null(0).to_numpy())
    used = {columns.user, columns.item, *moments.columns, *columns.conditions}
    ignored = tuple(name for name in table.columns if name not in used)
    problems, advice = [*rows.bad, *unrated], list(_on_ignored(table.name, ignored))
    sound = (of_user >= 0) & (of_item >= 0) & moments.values.is_not_null().to_numpy()
    if not sound.all():
        faults, more = _faults(entries, np.flatnonzero(~sound), columns, moments, options)
        problems = sorted([*problems, *faults], key=lambda problem: (problem.file, problem.line))
        without_user = np.flatnonzero(of_user < 0)
        without_user = without_user if entries.picked is None else entries.picked[without_user]
        advice = [*_on_users(table, columns.user, without_user, options), *more, *advice]
        events = events.take(sound).compact()
    return Log(
        table=table.name,
        events=events,
        columns={
            "user": columns.user,
            "item": columns.item,
            "time": " and ".join(moments.columns) or "order of the file",
            **({"kept by": ", ".join(f"{name} = {' or '.join(values)}" for name, values in columns.kept.items())} if columns.kept else {}),
            **({"rating": f"{columns.rating} of {options.min_rating:g} and more"} if columns.rating else {}),
        },
        ignored=ignored,
        problems=tuple(problems),
        rows=rows.frame.height + len(rows.bad) + entries.frame.height - kept.frame.height,
        left_out=left_out,
        notes=(*table.notes, *([moments.how] if moments.how else [])),
        advice=tuple(advice),
    )


def _faults(
    entries: Rows, rows: NDArray[np.int64], columns: LogColumns, moments: Moments, options: ReadOptions
) -> tuple[list[BadRow], list[Advice]]:
    """Return what is wrong with rows, each row's first fault, and the options that would read them."""
    cells: dict[str, list[object]] = {}
    for name in (columns.user, columns.item, *moments.columns):
        column = entries.frame[name].gather(pl.Series(rows))
        # Python cannot hold every date that Polars can.
        cells[name] = (texts(column) if column.dtype.is_temporal() else column).to_list()
    bad: list[BadRow] = []
    untimed: list[str] = []
    marks: list[str] = []
    lists = 0
    for number, row in enumerate(rows.tolist()):
        for role, name in (("user", columns.user), ("item", columns.item)):
            value = cells[name][number]
            why = why_no_id(value, options.null_marks)
            if why is not None:
                bad.append(entries.bad_row(row, f"no {role} id" if why == "missing" else f"the {role} id is {why}"))
                marks.extend([str(value)] if "stands for" in why else [])
                lists += why == "a list"
                break
        else:
            given = [cells[name][number] for name in moments.columns]
            bad.append(entries.bad_row(row, why_no_moment(given)))
            untimed.extend([" ".join(map(str, given))] if any(value is not None for value in given) else [])
    advice = []
    if untimed:
        text = f"{len(untimed):,} moments such as {untimed[0][:40]!r} could not be read; say how they are written"
        advice.append(Advice(text, (("time_format", "'%d.%m.%Y %H:%M'"),)))
    if marks:
        text = f"{len(marks):,} ids such as {marks[0]!r} stand for a missing value; if they are ids, read them as such"
        advice.append(Advice(text, (("null_marks", "none"),)))
    if lists and options.explode is None:
        advice.append(Advice(f"{lists:,} rows hold a list of items; read them as one event an entry", (("explode", "item"),)))
    return bad, advice


def _on_users(table: AnyTable, user: str, without: NDArray[np.int64], options: ReadOptions) -> Iterator[Advice]:
    """Name another column of users that is filled where the chosen one is not."""
    if options.user is not None or not len(without):
        return
    for other in candidates("user", table.columns):
        filled = ids(table.read([other]).frame[other], options.null_marks).is_not_null().to_numpy()
        if other != user and len(filled) > without.max() and filled[without].all():
            text = f"{len(without):,} rows have no {user!r}, and all of them have {other!r}; read that as the user"
            yield Advice(text, (("user", other),))
            return


def _on_ignored(table: str, ignored: Sequence[str]) -> Iterator[Advice]:
    """Point out columns that say which events count."""
    rating, event = guess("rating", ignored), guess("event", ignored)
    if rating is not None:
        yield Advice(f"{table}: every row is an event whatever its {rating!r} is; keep those that were liked", (("min_rating", "4"),))
    if event is not None:
        text = f"{table}: every row is an event whatever its {event!r} is; keep those of one kind"
        yield Advice(text, (("keep", f"{event}=VALUE"),))
