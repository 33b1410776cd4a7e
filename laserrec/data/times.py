"""Moments in the shapes that logs have, as microseconds since 1970.

Numbers are seconds, milliseconds, microseconds or nanoseconds, told apart by their size; dates are ISO 8601, without a zone UTC.
"""

from __future__ import annotations

import polars as pl

from laserrec.data.tables import MICROSECONDS
from laserrec.errors import DataError

ACCEPTED = "a number (seconds, milliseconds, microseconds or nanoseconds since 1970) or an ISO 8601 date"
_LATEST = 253_402_300_800  # the year 10000, in seconds
_SECONDS = 10**11  # numbers below are seconds
_FORMATS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
_ZONED = ("%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M%#z")


def microseconds(values: pl.Series, time_format: str | None = None) -> pl.Series:
    """Read a column of moments.

    Numbers below 1e11 are seconds (until the year 5138), below 1e14 milliseconds, below 1e17 microseconds, and nanoseconds beyond.

    Args:
        values: numbers, dates, datetimes, or text.
        time_format: strptime format that text, and a number's digits, are read with, in the place of the shapes above.

    Returns:
        Int64 microseconds, null where a value is none of these.

    Raises:
        DataError: the format cannot be used, or the values are dates already.
    """
    if time_format is not None and values.dtype.is_temporal():
        raise DataError(
            f"--time-format {time_format!r} says how a text is read; the times are of type {values.dtype} already. Leave it out."
        )
    if time_format is not None and values.dtype.is_numeric():
        values = values.cast(pl.String)
    if values.dtype == pl.Date or isinstance(values.dtype, pl.Datetime):
        return _utc(values).cast(pl.Datetime("us")).cast(pl.Int64)
    if values.dtype.is_numeric():
        return _from_numbers(values)
    if values.dtype != pl.String:
        return pl.Series(values.name, [None] * len(values), dtype=pl.Int64)
    text = values.str.strip_chars()
    if time_format is not None:
        return _from_format(text, time_format)
    whole = _from_numbers(text.cast(pl.Int64, strict=False))
    if not whole.null_count():
        return whole
    numbers = whole.zip_with(whole.is_not_null(), _from_numbers(text.cast(pl.Float64, strict=False)))
    return numbers if not numbers.null_count() else numbers.zip_with(numbers.is_not_null(), _from_dates(text))


def _utc(values: pl.Series) -> pl.Series:
    zone = getattr(values.dtype, "time_zone", None)
    return values.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zone else values


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


def _from_dates(text: pl.Series) -> pl.Series:
    plain = text.str.replace(r"^(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})[T ]?", "$1-$2-$3 ").str.replace(r"[zZ]$", "+00:00").str.strip_chars()
    frame = pl.DataFrame({"t": plain})
    read = [pl.col("t").str.to_datetime(form, time_unit="us", strict=False) for form in _FORMATS]
    joined = pl.col("t").str.replace(r"\s+([+-]\d\d:?\d\d)$", "$1")
    zoned = [joined.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False) for form in _ZONED]
    moments = pl.coalesce([*read, *(moment.dt.replace_time_zone(None) for moment in zoned)])
    return frame.select(moments.cast(pl.Int64).alias(text.name)).to_series()


def _from_format(text: pl.Series, time_format: str) -> pl.Series:
    zone = "UTC" if any(sign in time_format for sign in ("%z", "%:z", "%#z")) else None
    try:
        return _utc(text.str.to_datetime(time_format, time_unit="us", time_zone=zone, strict=False)).cast(pl.Int64)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"The time format {time_format!r} cannot be used: {reason} Example: --time-format '%d.%m.%Y %H:%M'") from error
