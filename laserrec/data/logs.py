"""A log's rows as events: which columns say who, what and when, which rows are kept, and what is wrong with the others.

Knows nothing of file formats: a reader hands over a table whose cells have their types.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from laserrec.data.advice import Advice
from laserrec.data.columns import candidates, guess, is_index, listed, resolve, told
from laserrec.data.events import Events
from laserrec.data.ids import numbered
from laserrec.data.moments import Moments, TimeColumns, why_no_moment
from laserrec.data.options import FLAGS, ReadOptions
from laserrec.data.reading.rows import Rows
from laserrec.data.tables import BadRow
from laserrec.data.values import ids, texts, why_no_id
from laserrec.errors import DataError

_ROW = "\0row"  # beside columns of any name


class Rowed(Protocol):
    """A table whose columns are known and whose rows can be read, as `laserrec.data.reading.table.Table` is."""

    name: str
    columns: list[str]
    notes: tuple[str, ...]

    def read(self, wanted: Sequence[str], numbers: Collection[str] = ()) -> Rows:
        """Return the rows with some columns."""
        ...


@dataclass
class Log:
    """The events of a table, and what happened to its rows.

    Attributes:
        events: the usable ones, in the order of the rows, times in microseconds.
        columns: which column was read as what.
        ignored: the others.
        problems: rows that could not be used.
        rows: rows read.
        left_out: rows that `keep` and `min_rating` left out.
        notes: how the table was read where several ways were possible.
        advice: what may be chosen otherwise.
    """

    events: Events
    columns: dict[str, str]
    ignored: tuple[str, ...]
    problems: list[BadRow]
    rows: int
    left_out: int = 0
    notes: list[str] = field(default_factory=list)
    advice: list[Advice] = field(default_factory=list)


def read_log(table: Rowed, options: ReadOptions) -> Log:
    """Read a table of interactions.

    Args:
        table: the interactions.
        options: columns that were named; the others are found by common names.

    Raises:
        DataError: a column cannot be found, or is named for two things.
    """
    named = [name for name in table.columns if not is_index(name)]
    user = resolve("user", options.user, table.columns if options.user else named, table.name)
    item = resolve("item", options.item, table.columns if options.item else named, table.name)
    times = TimeColumns.among(table.columns if options.time else named, table.name, options)
    if len({user, item, *times.moments}) < 2 + len(times.moments):
        when = times.moments[0] if times.moments else None
        raise DataError(f"{table.name}: user, item and time must be three columns; received {user!r}, {item!r} and {when!r}.")
    kept = _Kept.of(table, options)
    wanted = dict.fromkeys((user, item, *times.wanted, *kept.columns))
    rows = table.read(list(wanted), numbers=times.moments if options.time_format is None and len(times.wanted) == 1 else ())
    log = Log(Events.of(pl.DataFrame(schema=_NONE)), {}, (), list(rows.bad), rows.read)
    frame, places = kept.apply(rows, log)
    if options.explode == "item":
        frame, places = _exploded(frame, places, item)
    moments = Moments.of(frame, times, options)
    read = partial(ids, marks=options.null_marks)
    with ThreadPoolExecutor(2) as pool:
        (users, of_user), (items, of_item) = pool.map(lambda name: numbered(frame[name], read), (user, item))
    events = Events(users, items, of_user, of_item, moments.values.fill_null(0).to_numpy())
    bad = (of_user < 0) | (of_item < 0)
    if moments.values.null_count():
        bad |= moments.values.is_null().to_numpy()
    if bad.any():
        _report(log, rows, places, frame, np.flatnonzero(bad), (user, item, moments), options)
        _advise_on_users(log, table, user, of_user, places, options)
        events = events.take(~bad).compact()
        log.problems.sort(key=lambda problem: (problem.file, problem.line))
    log.events = events
    log.columns = {"user": user, "item": item, "time": " and ".join(moments.columns) or "order of the file", **kept.roles}
    used = {user, item, *moments.columns, *kept.columns}
    log.ignored = tuple(name for name in table.columns if name not in used)
    log.notes += [moments.how] if moments.how else []
    log.advice += _advice_on_ignored(table.name, log.ignored)
    return log


_NONE = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}


@dataclass(frozen=True)
class _Kept:
    """Which rows are kept, by the values of some columns."""

    values: dict[str, tuple[str, ...]]
    rating: str | None
    least: float

    @classmethod
    def of(cls, table: Rowed, options: ReadOptions) -> _Kept:
        values: dict[str, tuple[str, ...]] = {}
        for condition in options.keep:
            name, sign, wanted = condition.partition("=")
            if not sign or not wanted.strip():
                raise DataError(f"Received {FLAGS['keep']} {condition!r}; expected is COLUMN=VALUE or COLUMN=VALUE,VALUE.")
            column = told(name.strip(), table.columns, FLAGS["keep"], table.name)
            values[column] = (*values.get(column, ()), *(value.strip() for value in wanted.split(",")))
        rating = None
        if options.min_rating is not None:
            rating = guess("rating", table.columns)
            if rating is None:
                raise DataError(
                    f"{table.name}: cannot tell which column is the rating that {FLAGS['min_rating']} speaks of; it has "
                    f"{listed(table.columns)}. Leave it out, or name the column 'rating'."
                )
        return cls(values, rating, options.min_rating or 0.0)

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.values, *([self.rating] if self.rating else []))

    @property
    def roles(self) -> dict[str, str]:
        roles = {"kept by": ", ".join(f"{name} = {' or '.join(values)}" for name, values in self.values.items())} if self.values else {}
        return roles | ({"rating": f"{self.rating} of {self.least:g} and more"} if self.rating else {})

    def apply(self, rows: Rows, log: Log) -> tuple[pl.DataFrame, NDArray[np.int64] | None]:
        """Return the rows that are kept, and their numbers among all; None where all are. Count the others."""
        frame = rows.frame
        if not self.columns:
            return frame, None
        kept = np.ones(frame.height, dtype=np.bool_)
        for name, values in self.values.items():
            found = texts(frame[name], marks=())
            here = found.is_in([*values, *texts(pl.Series(values, dtype=pl.String), marks=()).drop_nulls()]).fill_null(False)
            if frame.height and not here.any():
                common = ", ".join(map(repr, found.drop_nulls().value_counts(sort=True).to_series()[:10]))
                raise DataError(f"{FLAGS['keep']}: the column {name!r} never holds {' or '.join(map(repr, values))}; it holds {common}.")
            kept &= here.to_numpy()
        log.left_out = int((~kept).sum())
        if self.rating:
            given = frame[self.rating]
            rating = texts(given).cast(pl.Float64, strict=False).fill_nan(None)
            unread = kept & rating.is_null().to_numpy()
            log.problems += [rows.bad_row(int(row), f"the rating {given[int(row)]!r} is not a number") for row in np.flatnonzero(unread)]
            high = kept & (rating.fill_null(-np.inf) >= self.least).to_numpy()
            log.left_out += int((kept & ~high & ~unread).sum())
            kept = high
        places = np.flatnonzero(kept)
        return frame.filter(pl.Series(kept)), places


def _exploded(frame: pl.DataFrame, places: NDArray[np.int64] | None, item: str) -> tuple[pl.DataFrame, NDArray[np.int64] | None]:
    """Return one row an entry of each list of items; an empty list stays, as a row without an item."""
    if frame[item].dtype != pl.Object:
        return frame, places
    entries = [(value or [None]) if isinstance(value, list | tuple) else [value] for value in frame[item].to_list()]
    rows = np.repeat(np.arange(frame.height), [len(values) for values in entries])
    flat = pl.Series(item, [value for values in entries for value in values], dtype=pl.Object)
    taken = pl.DataFrame([flat if name == item else frame[name].gather(pl.Series(rows)) for name in frame.columns])
    return taken, rows if places is None else places[rows]


def _report(
    log: Log,
    rows: Rows,
    places: NDArray[np.int64] | None,
    frame: pl.DataFrame,
    bad: NDArray[np.int64],
    columns: tuple[str, str, Moments],
    options: ReadOptions,
) -> None:
    """Record each bad row with its reason, and advise what would read it."""
    user, item, moments = columns
    untimed: list[str] = []
    lists = 0
    marks: list[str] = []
    values: dict[str, Any] = {}
    for name in (user, item, *moments.columns):
        column = frame[name].gather(pl.Series(bad))
        # A date beyond what Python can hold would end in a panic.
        values[name] = (column.to_physical() if column.dtype.is_temporal() else column).to_list()
    for number, row in enumerate(bad.tolist()):
        whys = {role: why_no_id(values[name][number], options.null_marks) for role, name in (("user", user), ("item", item))}
        reasons = [f"no {role} id" if why == "missing" else f"the {role} id is {why}" for role, why in whys.items() if why is not None]
        marks += [str(values[name][number]) for role, name in (("user", user), ("item", item)) if "stands for" in (whys[role] or "")]
        lists += whys["item"] == "a list"
        if not reasons:
            given = [values[name][number] for name in moments.columns]
            reasons = [why_no_moment(given)]
            untimed += [" ".join(map(str, given))] if reasons[0] != "no time" else []
        log.problems.append(rows.bad_row(row if places is None else int(places[row]), reasons[0]))
    if untimed:
        text = f"{len(untimed):,} moments such as {untimed[0][:40]!r} could not be read; say how they are written"
        log.advice.append(Advice(text, (("time_format", "'%d.%m.%Y %H:%M'"),)))
    if marks:
        text = f"{len(marks):,} ids such as {marks[0]!r} stand for a missing value; if they are ids, read them as such"
        log.advice.append(Advice(text, (("null_marks", "none"),)))
    if lists:
        log.advice.append(Advice(f"{lists:,} rows hold a list of items; read them as one event an entry", (("explode", "item"),)))


def _advise_on_users(
    log: Log, table: Rowed, user: str, of_user: NDArray[np.int64], places: NDArray[np.int64] | None, options: ReadOptions
) -> None:
    """Name another column of users that is filled where the chosen one is not."""
    without = np.flatnonzero(of_user < 0)
    if options.user is not None or not len(without):
        return
    without = without if places is None else places[without]
    for other in candidates("user", table.columns):
        filled = ids(table.read([other]).frame[other], options.null_marks).is_not_null().to_numpy() if other != user else np.zeros(0)
        if len(filled) > without.max() and filled[without].all():
            text = f"{len(without):,} rows have no {user!r}, and all of them have {other!r}; read that as the user"
            log.advice.append(Advice(text, (("user", other),)))
            return


def _advice_on_ignored(table: str, ignored: Sequence[str]) -> list[Advice]:
    advice = []
    rating, event = guess("rating", ignored), guess("event", ignored)
    if rating is not None:
        text = f"{table}: every row is an event whatever its {rating!r} is; keep those that were liked"
        advice.append(Advice(text, (("min_rating", "4"),)))
    if event is not None:
        text = f"{table}: every row is an event whatever its {event!r} is; keep those of one kind"
        advice.append(Advice(text, (("keep", f"{event}=VALUE"),)))
    return advice
