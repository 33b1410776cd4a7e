"""What a cell means: an id, a text, or nothing, alike in files of any format, in memory, and in calls from Python.

Knows nothing of files and columns.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from html import unescape
from html.entities import html5
from itertools import pairwise
from typing import Any

import polars as pl

from laserrec.errors import DataError

# fmt: off
NULL_MARKS = (
    "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NULL", "Null", "null", "None", "NaN", "nan", "NAN", "-nan", "NaT", "\\N",
)
# fmt: on
"""What programs write for a missing value: databases, R, pandas, Python, spreadsheets. A blank is missing whatever the marks are."""
EXACT = 2**53
"""Whole numbers from here on share their float64 with neighbours, so a float from here on may stand for several ids."""
REFERENCE = r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});"
"""A character reference of HTML, such as shops' exports are full of; only with its semicolon, for "AT&T" is none."""
_BLANKS = "".join(filter(str.isspace, map(chr, range(0x3001))))  # Python's; Polars' own lack the separators \x1c to \x1f
_BLANK = r"[\s\x1c-\x1f]+"  # the same
_DEEPEST = 20
_MOST_BITS = 4096  # Python refuses to write whole numbers much longer than these
_LONGEST = len("-9007199254740991")
_WHOLE = r"^-?(?:0|[1-9][0-9]*)\.0+$"  # how floats and decimals that are whole are written
_SCIENTIFIC = r"^-?[0-9](?:\.[0-9]+)?[eE]\+[0-9]+$"  # how programs write large floats, and spreadsheets whatever has many digits


def ids(values: pl.Series, marks: Collection[str] = NULL_MARKS) -> pl.Series:
    """Read a column of ids.

    Args:
        values: of any type; see `why_no_id` for what is none.
        marks: texts that stand for a missing value.

    Returns:
        String, without blanks at the ends, whole floats as their integers; null where a value is no id.
    """
    kind = values.dtype
    if kind == pl.String:
        return _text_ids(values, marks)
    if kind.is_integer() or kind.is_temporal():
        written = _dates(values) if kind.is_temporal() else values.cast(pl.String)
        return written.set(written.is_in(list(marks)), None)
    if kind.is_float() and (whole := _whole(values)) is not None:
        return whole.set(whole.is_in(list(marks)), None)
    given = values if kind.is_float() or kind == pl.Object else [None] * len(values)
    return _text_ids(pl.Series(values.name, [_written(value) for value in given], dtype=pl.String), marks)


def why_no_id(value: object, marks: Collection[str] = NULL_MARKS) -> str | None:
    """Return why a value is no id, or None where `ids` reads it as one."""
    value = decoded(value)
    never = _why_never(value)
    if never is not None:
        return never
    text = str(value).strip()
    if not text:
        return "missing"
    if text in marks:
        return f"{text!r}, which stands for a missing value"
    digits = text.partition(".")[0]
    if re.search(_SCIENTIFIC, text) or (re.search(_WHOLE, text) and (len(digits) > _LONGEST or abs(int(digits)) >= EXACT)):
        return f"the float {text[:40]!r}; as a float it may have lost digits"
    return None


def texts(values: pl.Series, marks: Collection[str] = NULL_MARKS) -> pl.Series:
    """Read a column of texts.

    Args:
        values: of any type.
        marks: texts that stand for a missing value.

    Returns:
        String: HTML's references as characters, white space collapsed, whole floats as their integers; null where nothing is said.
    """
    kind = values.dtype
    if kind.is_float():
        values = values.fill_nan(None).cast(pl.String)
    elif kind == pl.Object or kind.is_nested() or kind == pl.Binary:
        values = pl.Series(values.name, [as_text(value) for value in values.to_list()], dtype=pl.String)
    else:
        values = _dates(values) if kind.is_temporal() else values.cast(pl.String)
    found = values.str.extract_all(REFERENCE).explode(empty_as_null=True).drop_nulls().unique().sort()
    if len(found):
        values = values.str.replace_many({reference: _character(reference) for reference in found})
    values = values.str.replace_all(_BLANK, " ").str.strip_chars()
    values = values.str.replace(r"^(-?(?:0|[1-9][0-9]{0,15}))\.0$", "$1")
    return values.set(values.is_in(["", *marks]), None)


def as_text(value: Any, depth: int = 0) -> str | None:  # noqa: ANN401 - whatever JSON holds
    """Return a JSON value as an attribute's text: lists joined by commas, objects as `key: value`, what is missing as None.

    Args:
        value: any.
        depth: how many lists and objects it stands in; what stands in more than 20 says nothing.
    """
    if value is None or value != value or depth > _DEEPEST or _endless(value):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(text for entry in value if (text := as_text(entry, depth + 1))) or None
    if isinstance(value, dict):
        return ", ".join(f"{key}: {text}" for key, entry in value.items() if (text := as_text(entry, depth + 1))) or None
    if isinstance(value, float) and abs(value) < EXACT and value == int(value):
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    # Escapes such as \ud800 give text that no encoding can write.
    return str(value).encode("utf-8", "replace").decode("utf-8")


def decoded(value: object) -> object:
    """Return bytes that are UTF-8 as text: some programs write Parquet's texts without saying that they are."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    return value


def item_attributes(item: Mapping[str, object], columns: Sequence[str]) -> dict[str, str]:
    """Return an item's attributes as a catalogue would hold them: the same words, under the same names, in the same order.

    Args:
        item: names and values as somebody gives them; `texts` reads the values.
        columns: the catalogue's attributes, `title` first. Names that differ from one in capitals alone are that one.

    Returns:
        What is known of the item, the catalogue's attributes first and in its order.

    Raises:
        DataError: two names are the same one.

    Example:
        >>> item_attributes({"Brand": "Alp ", "year": 1999.0, "title": "Caf&eacute;"}, ["title", "brand"])
        {'title': 'Café', 'brand': 'Alp', 'year': '1999'}
    """
    return read_attributes([named_attributes(item, columns)])[0]


def named_attributes(item: Mapping[str, object], columns: Sequence[str]) -> dict[str, object]:
    """Return an item's values under the catalogue's names, those first and in its order; arguments and errors as in `item_attributes`."""
    alike = {name.casefold(): name for name in columns}
    named: dict[str, object] = {}
    for key, value in item.items():
        name = key if key in columns else alike.get(key.strip().casefold(), key)
        if name in named:
            raise DataError(f"{name!r} is given twice, as {key!r} too.")
        named[name] = value
    order = [*(name for name in columns if name in named), *(name for name in named if name not in columns)]
    return {name: named[name] for name in order}


def read_attributes(named: Sequence[Mapping[str, object]]) -> list[dict[str, str]]:
    """Return as text what `named_attributes` gave of each item, without what says nothing; all are read in one column."""
    values = [as_text(value) for item in named for value in item.values()]
    read = iter(texts(pl.Series(values, dtype=pl.String)).to_list())
    found = [{name: next(read) for name in item} for item in named]
    return [{name: text for name, text in item.items() if text is not None} for item in found]


def attribute_order(items: Iterable[Mapping[str, object]]) -> list[str]:
    """Return the names that items have, in an order that agrees with that of every item; each item may lack some of them."""
    shapes = dict.fromkeys(tuple(item) for item in items)
    before: dict[str, dict[str, None]] = {name: {} for names in shapes for name in names}
    for names in shapes:
        for name, following in pairwise(names):
            before[following][name] = None
    try:
        return list(TopologicalSorter(before).static_order())
    except CycleError:  # the items themselves disagree
        return list(before)


def _text_ids(values: pl.Series, marks: Collection[str]) -> pl.Series:
    values = values.str.strip_chars(_BLANKS)
    missing = values.is_in(["", *marks]) | values.str.contains(_SCIENTIFIC)
    whole = values.str.contains(_WHOLE)
    if whole.any():
        numbers = values.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False)
        exact = numbers.is_between(-EXACT, EXACT, closed="none").fill_null(False)
        values = values.zip_with(~whole.fill_null(False), numbers.cast(pl.String))
        missing |= whole & ~exact
    return values.set(missing, None)


def _dates(values: pl.Series) -> pl.Series:
    """Return dates and times as text, and as bare numbers where they lie beyond the years 1 to 9999: Polars panics at some of those."""
    if values.dtype != pl.Date and not isinstance(values.dtype, pl.Datetime):
        return (values.to_physical() if isinstance(values.dtype, pl.Duration) else values).cast(pl.String)
    a_day = 1 if values.dtype == pl.Date else 86_400 * {"ms": 10**3, "us": 10**6, "ns": 10**9}[getattr(values.dtype, "time_unit", "us")]
    raw = values.to_physical().cast(pl.Int64)
    inside = (raw // a_day).is_between(-719_162, 2_932_896)  # days since 1970
    return values.set(~inside, None).cast(pl.String).zip_with(inside, raw.cast(pl.String))


def _whole(values: pl.Series) -> pl.Series | None:
    """Return floats as the integers they are, null where an id cannot be one; None where some have fractions."""
    exact = values.set(~(values.abs() < EXACT).fill_null(False), None)
    return exact.cast(pl.Int64).cast(pl.String) if (exact == exact.floor()).all() else None  # but for nulls


def _why_never(value: object) -> str | None:
    """Return why a value is no id whatever the marks are, or None."""
    if value is None or value != value:
        return "missing"
    if isinstance(value, bool):
        return f"{str(value).lower()}, a truth value"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, bytes):
        return "bytes that are no text"
    if _endless(value):
        return "a number of more than a thousand digits"
    if isinstance(value, float) and abs(value) >= EXACT:
        return f"the float {value!r}; from 2^53 on several whole numbers are the same float"
    return None


def _written(value: object) -> str | None:
    """Return an id of a column of several types as text; None for what is no id whatever the marks are."""
    value = decoded(value)
    if _why_never(value) is not None:
        return None
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)


def _endless(value: object) -> bool:
    return isinstance(value, int) and value.bit_length() > _MOST_BITS


def _character(reference: str) -> str:
    """Return what a reference stands for, itself where it has no meaning; the standard library alone would read the beginning of others."""
    return unescape(reference) if reference.startswith("&#") or reference[1:] in html5 else reference
