"""When the events of a log were: the finest of its columns that can be read, a day with its time of day, or the order of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from laserrec.data.columns import LogColumns
from laserrec.data.options import ReadOptions
from laserrec.data.tables import MICROSECONDS
from laserrec.data.times import ACCEPTED, RESOLUTIONS, clock, microseconds, resolution

_USABLE = 0.99  # of what the best column has; a column with gaps is not finer than one without


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
    def of(cls, frame: pl.DataFrame, among: LogColumns, options: ReadOptions) -> Moments:
        """Read the finest of the columns that can be read.

        Args:
            frame: holds the columns.
            among: which may say when.
            options: `time_format` and `clock`.
        """
        if not among.moments:
            return cls((), pl.int_range(frame.height, dtype=pl.Int64, eager=True) * MICROSECONDS)
        first = among.moments[0]
        if options.clock is not None or len(among.times) == 1:
            values = microseconds(frame[first], options.time_format)
            return cls((first,), values) if options.clock is None else _together(frame, first, values, among.clocks[0])
        # Of several columns some may be dates already, which a format says nothing about.
        read = {name: microseconds(frame[name], None if frame[name].dtype.is_temporal() else options.time_format) for name in among.moments}
        enough = _USABLE * max(map(_known, read.values()))
        usable = [name for name in read if _known(read[name]) >= enough]
        clocks = [name for name in among.clocks if _known(clock(frame[name])) >= enough]
        fineness = {name: resolution(read[name]) for name in usable if name not in clocks}
        if not fineness:
            return cls((usable[0],), read[usable[0]])
        finest = max(fineness, key=lambda name: RESOLUTIONS.index(fineness[name]))
        if fineness[finest] == "day" and clocks:
            return _together(frame, finest, read[finest], clocks[0])
        others = ", ".join(repr(name) for name in among.moments if name != finest)
        fine = "fraction of a second" if fineness[finest] == "fraction" else fineness[finest]
        how = f"moments are read from {finest!r} (to the {fine}); beside it stands {others}"
        return cls((finest,), read[finest], how if others else None)


def why_no_moment(given: Sequence[object]) -> str:
    """Return what is wrong with the values of a row that say no moment."""
    shown = " ".join(str(value) for value in given if value is not None).strip()
    return f"the time {shown[:40]!r} is not {ACCEPTED}" if shown else "no time"


def _known(values: pl.Series) -> int:
    return len(values) - values.null_count()


def _together(frame: pl.DataFrame, day: str, days: pl.Series, time: str) -> Moments:
    return Moments((day, time), days + clock(frame[time]), f"moments are read from {day!r} and {time!r} together")
