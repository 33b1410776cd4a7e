"""Which columns of a table say when: the finest that can be read, a day with its time of day, or none, where the rows are in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from laserrec.data.columns import candidates, resolve, told
from laserrec.data.options import FLAGS, ReadOptions
from laserrec.data.tables import MICROSECONDS
from laserrec.data.times import ACCEPTED, RESOLUTIONS, Resolution, clock, microseconds, resolution

_USABLE = 0.99  # of what the best column has; a column with gaps is not finer than one without


@dataclass(frozen=True)
class TimeColumns:
    """Columns that may say when.

    Attributes:
        moments: those of moments, the most usual first.
        clocks: those of times of day.
    """

    moments: tuple[str, ...] = ()
    clocks: tuple[str, ...] = ()

    @classmethod
    def among(cls, columns: Sequence[str], file: str, options: ReadOptions) -> TimeColumns:
        """Return what is to be read: the columns that were named, else those with common names.

        Raises:
            DataError: a column that was named is absent, or there is none.
        """
        if options.file_order:
            return cls()
        if options.clock is not None:
            clocks = (told(options.clock, columns, FLAGS["clock"], file),)
            days = [name for name in columns if name not in clocks]
            return cls((resolve("time", options.time, days, file),), clocks)
        if options.time is not None:
            return cls((told(options.time, columns, FLAGS["time"], file),))
        first = resolve("time", None, columns, file, f", or pass {FLAGS['file_order']} if each user's rows are in order already")
        moments = tuple(dict.fromkeys((first, *candidates("time", columns))))
        return cls(moments, tuple(candidates("clock", columns)))

    @property
    def wanted(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(dict.fromkeys((*self.moments, *self.clocks)))


@dataclass(frozen=True)
class Moments:
    """When the events of a table were.

    Attributes:
        columns: the columns that say so; none where the order of the rows does.
        values: Int64 microseconds, null where nothing can be read.
        how: of several columns, why these.
    """

    columns: tuple[str, ...]
    values: pl.Series
    how: str | None = None

    @classmethod
    def of(cls, frame: pl.DataFrame, among: TimeColumns, options: ReadOptions) -> Moments:
        """Read the finest of the columns that can be read.

        Args:
            frame: holds the columns.
            among: which may say when.
            options: `time_format` and `clock`.
        """
        if not among.moments:
            return cls((), pl.int_range(frame.height, dtype=pl.Int64, eager=True) * MICROSECONDS)
        if len(among.wanted) == 1:
            return cls(among.moments, microseconds(frame[among.moments[0]], options.time_format))
        clocks = {name: clock(frame[name]) for name in among.clocks}
        if options.clock is not None:
            return _together(among.moments[0], options.clock, microseconds(frame[among.moments[0]], options.time_format), clocks)
        read = {name: _read(frame[name], options.time_format) for name in among.moments}
        known = {name: len(values) - values.null_count() for name, values in read.items()}
        usable = [name for name in read if known[name] >= _USABLE * max(known.values())]
        times = {name for name, values in clocks.items() if len(values) - values.null_count() >= _USABLE * max(known.values())}
        fineness: dict[str, Resolution] = {name: resolution(read[name]) for name in usable if name not in times}
        if not fineness:
            return cls((usable[0],), read[usable[0]])
        finest = max(fineness, key=lambda name: RESOLUTIONS.index(fineness[name]))
        with_day = next((name for name in among.clocks if name in times), None)
        if fineness[finest] == "day" and with_day is not None:
            return _together(finest, with_day, read[finest], clocks)
        others = ", ".join(repr(name) for name in among.moments if name != finest)
        fine = "fraction of a second" if fineness[finest] == "fraction" else fineness[finest]
        how = f"moments are read from {finest!r} (to the {fine}); beside it stands {others}"
        return cls((finest,), read[finest], how if others else None)


def why_no_moment(given: Sequence[object]) -> str:
    """Return what is wrong with the values of a row that say no moment."""
    shown = " ".join(str(value) for value in given if value is not None).strip()
    return f"the time {shown[:40]!r} is not {ACCEPTED}" if shown else "no time"


def _read(values: pl.Series, time_format: str | None) -> pl.Series:
    return microseconds(values, None if values.dtype.is_temporal() else time_format)


def _together(day: str, time: str, days: pl.Series, clocks: dict[str, pl.Series]) -> Moments:
    return Moments((day, time), days + clocks[time], f"moments are read from {day!r} and {time!r} together")
