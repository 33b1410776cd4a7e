"""Columns of a few types, whatever a file or a library had: see `laserrec.data.reading.rows.Rows`."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import polars as pl

from laserrec.data.values import EXACT, decoded

_LONG = range(-(2**63), 2**63)
_KEPT = (pl.String, pl.Int64, pl.Float64, pl.Boolean, pl.Date, pl.Time, pl.Object)


def from_python(name: str, values: Sequence[object]) -> pl.Series:
    """Return a column of values that JSON has.

    Args:
        name: of the column.
        values: None, str, bool, int, float, list and dict.
    """
    kinds = set(map(type, values)) - {type(None)}
    if kinds <= {str}:
        return pl.Series(name, values, dtype=pl.String)
    if kinds == {bool}:
        return pl.Series(name, values, dtype=pl.Boolean)
    if kinds == {int} and all(value in _LONG for value in values if isinstance(value, int)):
        return pl.Series(name, values, dtype=pl.Int64)
    if float in kinds <= {int, float} and all(abs(value) <= EXACT for value in values if isinstance(value, int)):
        return pl.Series(name, values, dtype=pl.Float64)
    return pl.Series(name, values, dtype=pl.Object)


def from_polars(values: pl.Series) -> pl.Series:
    """Return a column of any of Polars' types as one of ours, without loss.

    Decimals become whole numbers where all of them are, else floats; floats of 32 bits the shortest decimal that means them.
    """
    kind = values.dtype
    if kind in _KEPT or isinstance(kind, pl.Datetime | pl.Duration):
        return values
    if kind == pl.Null or isinstance(kind, pl.Categorical | pl.Enum):
        return values.cast(pl.String)
    if kind.is_integer():
        whole = values.cast(pl.Int64, strict=False)
        return whole if whole.null_count() == values.null_count() else _python(values)
    if kind.is_float():
        return values.cast(pl.String).cast(pl.Float64)
    if kind.is_decimal():
        return _from_decimals(values)
    if kind == pl.Binary:
        try:
            return values.cast(pl.String)
        except pl.exceptions.PolarsError:
            return pl.Series(values.name, [decoded(value) for value in values], dtype=pl.Object)
    return _python(values)


def _from_decimals(values: pl.Series) -> pl.Series:
    whole = values.cast(pl.Int64, strict=False)
    if whole.null_count() == values.null_count() and (whole.cast(values.dtype, strict=False) == values).all():
        return whole
    return from_python(values.name, [value if value is None else _number(value) for value in values])


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


def _python(values: pl.Series) -> pl.Series:
    return pl.Series(values.name, values.to_list(), dtype=pl.Object)


def joined(parts: Sequence[pl.Series]) -> pl.Series:
    """Return parts of one column, each of a type of its own, as one."""
    known = [part for part in parts if part.null_count() < len(part)] or parts[:1]
    kinds = {part.dtype for part in known}
    if len(kinds) == 1:
        kind = kinds.pop()
        return pl.concat([part if part.dtype == kind else pl.Series(part.name, [None] * len(part), dtype=kind) for part in parts])
    return from_python(parts[0].name, [value for part in parts for value in part.to_list()])
