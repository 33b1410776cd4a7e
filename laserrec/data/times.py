"""Moments in the shapes that logs have, as microseconds since 1970.

Numbers are seconds, milliseconds, microseconds or nanoseconds, told apart by their size; dates are ISO 8601, without a zone UTC.
A moment lies in the years 1 to 9999; what is outside is none.
"""

from __future__ import annotations

from email.utils import parsedate_tz
from typing import Literal
from zoneinfo import available_timezones

import polars as pl

from laserrec.data.tables import MICROSECONDS
from laserrec.errors import DataError

ACCEPTED = "a number (seconds, milliseconds, microseconds or nanoseconds since 1970) or an ISO 8601 date, of the years 1 to 9999"
Resolution = Literal["day", "minute", "second", "fraction"]
RESOLUTIONS: tuple[Resolution, ...] = ("day", "minute", "second", "fraction")
"""How finely a column tells moments apart, coarsest first."""
DAY = 86_400 * MICROSECONDS
_EARLIEST, _LATEST = -62_135_596_800, 253_402_300_800  # the years 1 and 10000, in seconds
_SECONDS = 10**11  # numbers below are seconds
_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_ZONED = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z")
_CLOCKS = ("%H:%M:%S%.f", "%H:%M", "%I:%M:%S %p", "%I:%M %p")
_ZONE = r"[ T\d:.]\s*([A-Za-z][A-Za-z_]*(?:/[A-Za-z0-9_+-]+)*)$"
_UNITS = {"ms": 1000, "us": 1}


def microseconds(values: pl.Series, time_format: str | None = None) -> pl.Series:
    """Read a column of moments.

    Numbers below 1e11 are seconds (until the year 5138), below 1e14 milliseconds, below 1e17 microseconds, and nanoseconds beyond.

    Args:
        values: numbers, dates, datetimes, or text.
        time_format: strptime format that text, and a number's digits, are read with, instead of the shapes above.

    Returns:
        Int64 microseconds, null where a value is none of these, or lies outside the years 1 to 9999.

    Raises:
        DataError: the format cannot be used, or the values are dates already.
    """
    if time_format is not None and values.dtype.is_temporal():
        raise DataError(
            f"The time format {time_format!r} says how a text is read; the times are of type {values.dtype} already. Leave it out.",
            parameters=["time_format"],
        )
    if time_format is not None and values.dtype.is_numeric():
        values = values.cast(pl.String)
    if values.dtype == pl.Date or isinstance(values.dtype, pl.Datetime):
        return _from_dates(values)
    if values.dtype.is_numeric():
        return _within(_from_numbers(values))
    values = _written(values)
    if values.dtype != pl.String:
        return pl.Series(values.name, [None] * len(values), dtype=pl.Int64)
    text = values.str.strip_chars()
    if time_format is not None:
        return _within(_from_format(text, time_format))
    whole = _from_numbers(text.cast(pl.Int64, strict=False))
    if whole.null_count():
        whole = whole.zip_with(whole.is_not_null(), _from_numbers(text.cast(pl.Float64, strict=False)))
    if whole.null_count():
        whole = whole.zip_with(whole.is_not_null(), _from_text(text))
    return _within(whole)


def clock(values: pl.Series) -> pl.Series:
    """Read a column of times of day, or of milliseconds since some start within the day.

    Args:
        values: times, durations, text such as `18:30`, `18:30:05` or `6:30 PM`, or digits: hours (all up to 23), HHMM (all of that form),
            HHMMSS (likewise), else milliseconds.

    Returns:
        Int64 microseconds, from 0 to below a day; null where a value is none of these.
    """
    if values.dtype == pl.Time:
        return values.to_physical() // 1000
    if isinstance(values.dtype, pl.Duration):
        return _in_a_day(values.dt.total_microseconds())
    if values.dtype.is_numeric():
        return _in_a_day(_from_digits(values.cast(pl.Float64)))
    values = _written(values)
    if values.dtype != pl.String:
        return pl.Series(values.name, [None] * len(values), dtype=pl.Int64)
    text = values.str.strip_chars()
    digits = text.cast(pl.Float64, strict=False)
    read = pl.DataFrame({"t": text}).select(
        pl.coalesce(pl.col("t").str.to_time(form, strict=False) for form in _CLOCKS).to_physical() // 1000
    )
    moments = read.to_series().alias(values.name)
    return _in_a_day(moments.zip_with(moments.is_not_null(), _from_digits(digits)))


def resolution(moments: pl.Series) -> Resolution:
    """Return how finely moments, Int64 microseconds, are told apart; one that holds midnights alone is a day."""
    known = moments.drop_nulls()
    units: tuple[tuple[Resolution, int], ...] = (("day", DAY), ("minute", 60 * MICROSECONDS), ("second", MICROSECONDS))
    for name, unit in units:
        if (known % unit == 0).all():
            return name
    return "fraction"


def _written(values: pl.Series) -> pl.Series:
    """Return a column of numbers and texts as text; columns of one type stay as they are."""
    if values.dtype != pl.Object:
        return values
    texts = [str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None for value in values]
    return pl.Series(values.name, texts, dtype=pl.String)


def _within(moments: pl.Series) -> pl.Series:
    """Return moments, Int64 microseconds, without those outside the years 1 to 9999: nothing else may enter a key of sorting."""
    smallest, largest = moments.min(), moments.max()
    if smallest is None or (smallest >= _EARLIEST * MICROSECONDS and largest < _LATEST * MICROSECONDS):  # type: ignore[operator]
        return moments
    inside = moments.is_between(_EARLIEST * MICROSECONDS, _LATEST * MICROSECONDS, closed="left")
    return moments.set(~inside, None)


def _from_dates(values: pl.Series) -> pl.Series:
    """Read dates and datetimes; ranges are checked in their unit, since a product that overflows becomes another moment."""
    raw = values.to_physical().cast(pl.Int64)
    if isinstance(values.dtype, pl.Datetime) and values.dtype.time_unit == "ns":
        return _within(raw // 1000)
    factor = DAY if values.dtype == pl.Date else _UNITS[values.dtype.time_unit]  # type: ignore[attr-defined]
    earliest, latest = _EARLIEST * MICROSECONDS // factor, _LATEST * MICROSECONDS // factor
    return raw.set(~raw.is_between(earliest, latest, closed="left"), None) * factor


def _from_numbers(values: pl.Series) -> pl.Series:
    smallest, largest = values.min(), values.max()
    if isinstance(smallest, int) and isinstance(largest, int) and -_SECONDS < smallest <= largest < _SECONDS:
        return values.cast(pl.Int64) * MICROSECONDS
    frame = pl.DataFrame({"v": values})
    # Exact in float64: no moment before the year 2255 has more than 2**53 microseconds.
    value = pl.col("v").cast(pl.Float64)
    size = value.abs()
    small = pl.when(size < _SECONDS).then((value * MICROSECONDS).round()).when(size < 1e14).then((value * 1000).round())
    scaled = small.when(size < 1e17).then(value.floor()).otherwise((value / 1000).floor())
    usable = size.is_finite() & (scaled.abs() < _LATEST * MICROSECONDS)
    return frame.select(pl.when(usable).then(scaled).cast(pl.Int64, strict=False).alias(values.name)).to_series()


def _from_text(text: pl.Series) -> pl.Series:
    plain = text.str.replace(r"^(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})[T ]?", "$1-$2-$3 ").str.replace(r"\[[\w/+-]+\]$", "").str.strip_chars()
    named = plain.str.extract(_ZONE)
    moments = _from_iso(plain)
    for zone in named.drop_nulls().unique().sort().to_list():
        # A zone that has a name is taken off, and the rest is read in it.
        of_zone = named.eq_missing(zone)
        bare = pl.Series(text.name, plain.filter(of_zone)).str.slice(0).str.replace(r"\s*[A-Za-z][A-Za-z_]*(?:/[A-Za-z0-9_+-]+)*$", "")
        moments = moments.scatter(of_zone.arg_true(), _in_zone(_from_iso(bare), zone))
    return moments


def _in_zone(local: pl.Series, zone: str) -> pl.Series:
    """Return what moments on a zone's clocks are, Int64 microseconds; null for a zone whose name says no offset."""
    if zone.upper() in ("Z", "UTC", "GMT", "UT"):
        return local
    if zone.isupper() and (mail := parsedate_tz(f"1 Jan 2000 00:00 {zone}")) and mail[9]:
        return local - mail[9] * MICROSECONDS  # the zones of mail headers: EST, EDT, … PDT
    if zone not in available_timezones():
        return pl.Series(local.name, [None] * len(local), dtype=pl.Int64)
    moments = local.cast(pl.Datetime("us")).dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return moments.to_physical()


def _from_iso(plain: pl.Series) -> pl.Series:
    frame = pl.DataFrame({"t": plain})
    read = [pl.col("t").str.to_datetime(form, time_unit="us", strict=False) for form in _FORMATS]
    joined = pl.col("t").str.replace(r"\s+([+-]\d\d:?\d\d)$", "$1")
    zoned = [joined.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False) for form in _ZONED]
    moments = pl.coalesce([*read, *(moment.dt.replace_time_zone(None) for moment in zoned)])
    return frame.select(moments.cast(pl.Int64).alias(plain.name)).to_series()


def _from_format(text: pl.Series, time_format: str) -> pl.Series:
    zone = "UTC" if any(sign in time_format for sign in ("%z", "%:z", "%#z")) else None
    try:
        return text.str.to_datetime(time_format, time_unit="us", time_zone=zone, strict=False).to_physical().cast(pl.Int64)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = str(error).partition("\n")[0]
        message = f"The time format {time_format!r} cannot be used: {reason} Example: '%d.%m.%Y %H:%M'"
        raise DataError(message, parameters=["time_format"]) from error


def _from_digits(values: pl.Series) -> pl.Series:
    """Read times of day written as numbers, Float64, as microseconds; the whole column decides what its digits are."""
    whole = values.set(~((values == values.floor()) & (values >= 0)).fill_null(False), None).cast(pl.Int64, strict=False)
    known = whole.drop_nulls()
    hours, minutes, seconds = known // 10_000, known // 100 % 100, known % 100
    if (known <= 23).all():
        return whole * 60 * 60 * MICROSECONDS
    if ((known // 100 <= 23) & (seconds <= 59)).all():
        return (whole // 100 * 60 + whole % 100) * 60 * MICROSECONDS
    if ((hours <= 23) & (minutes <= 59) & (seconds <= 59)).all():
        return ((whole // 10_000 * 60 + whole // 100 % 100) * 60 + whole % 100) * MICROSECONDS
    return whole * 1000


def _in_a_day(moments: pl.Series) -> pl.Series:
    return moments.set(~moments.is_between(0, DAY, closed="left"), None)
