"""Columns of a table, as text: fast where the file is sound, and row by row with line numbers where it is not.

Polars reads a sound file lazily and in parallel but cannot say which line of a damaged one is wrong; then the exact reader in
`laserrec.data.text` takes over. Both give the same rows of a sound file. A table in memory is read as a Parquet file is.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import polars as pl

from laserrec.data.frames import Frame, Table
from laserrec.data.options import ReadOptions
from laserrec.data.tables import BadRow
from laserrec.data.text import OnBad, lines, quoted_rows
from laserrec.data.values import as_text
from laserrec.errors import DataError

Kind = Literal["csv", "tsv", "jsonl", "parquet"]
_ENDINGS: dict[str, Kind] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
}
_POLARS = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
_CHUNK = 200_000
_EXACT = 2**53
_DECODE = """
import sys, polars
try:
    table = polars.scan_parquet(sys.argv[1], glob=False)
    for name in table.collect_schema().names():
        table.select(polars.col(name)).collect()
except BaseException as error:
    print(error)
    sys.exit(1)
"""
_Row = tuple[int, int, list[str | None]]  # line, fields in it, the wanted ones


@dataclass(frozen=True)
class Rows:
    """Rows that were read one by one.

    Attributes:
        frame: the wanted columns as text.
        lines: line of each row.
        widths: fields of each row.
        width: fields that a row should have.
        read: rows read, malformed ones included.
    """

    frame: pl.DataFrame
    lines: list[int]
    widths: list[int]
    width: int
    read: int


def file_kind(path: Path) -> Kind | None:
    """Return the kind of a table by its file's ending, `.gz` aside, or None."""
    return _ENDINGS.get(Path(path.name.lower().removesuffix(".gz")).suffix)


def column_names(path: Table, options: ReadOptions) -> list[str]:
    """Return a table's columns.

    Raises:
        DataError: the file cannot be read, is of no known kind, or its columns have no or equal names.
    """
    if isinstance(path, Frame) or (kind := _kind(path)) == "parquet":
        names = _lazy(path).collect_schema().names()
    elif kind == "jsonl":
        names = _keys(path, options)
    else:
        _, names = next(quoted_rows(path, _separator(path, options), _refuse_header, options.encoding), (0, []))
        names = [name.strip() for name in names]
    if not names:
        raise DataError(f"{path.name} is empty: expected a header and rows.")
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise DataError(f"{path.name}: the header names {', '.join(map(repr, twice))} more than once.")
    return names


def read_fast(path: Table, wanted: dict[str, str], options: ReadOptions, numbers: Collection[str] = ()) -> pl.DataFrame | None:
    """Read the wanted columns of a sound table, or return None where the exact reader must.

    Args:
        path: CSV, TSV or Parquet file, or a table in memory.
        wanted: the file's column for each name of the result.
        options: encoding and delimiter.
        numbers: names whose columns are Int64 if all of them hold only whole numbers; otherwise they are text like the others.
    """
    columns = [pl.col(column).alias(name) for name, column in wanted.items()]
    if isinstance(path, Frame) or (kind := _kind(path)) == "parquet":
        return _read_typed(path, columns)
    if kind == "jsonl" or options.encoding.lower() not in {"utf-8", "utf8", "utf-8-sig"}:
        return None
    whole = [column for name, column in wanted.items() if name in numbers]
    for schema in (dict.fromkeys(whole, pl.Int64), {}):
        try:
            return _lazy_csv(path, options, schema).select(columns).collect(engine="streaming")
        except _POLARS:
            continue
    return None


def _read_typed(path: Table, columns: list[pl.Expr]) -> pl.DataFrame | None:
    try:
        frame = _whole(_lazy(path).select(columns).collect(engine="streaming"))
    except _POLARS:
        return None
    return None if any(kind.is_nested() or kind in (pl.Object, pl.Binary) for kind in frame.schema.dtypes()) else frame


def read_rows(path: Table, wanted: dict[str, str], options: ReadOptions, problems: list[BadRow], strict: bool = False) -> Rows:
    """Read the wanted columns row by row, reporting malformed rows.

    Args:
        path: any table.
        wanted: the file's column for each name of the result.
        options: encoding and delimiter.
        problems: where malformed rows are reported.
        strict: a row with fewer fields than the header is malformed, too; otherwise what it lacks is empty.

    Raises:
        DataError: the file cannot be read at all.
    """
    if isinstance(path, Frame) or (kind := _kind(path)) == "parquet":
        return _typed_rows(path, wanted)
    found = len(problems)
    if kind == "jsonl":
        width, rows = len(wanted), _json_rows(path, list(wanted.values()), options.encoding, problems.append)
    else:
        width, rows = _csv_rows(path, list(wanted.values()), options, problems.append, strict)
    numbers: list[int] = []
    widths: list[int] = []
    chunks: list[pl.DataFrame] = [pl.DataFrame(schema=dict.fromkeys(wanted, pl.String))]
    waiting: list[list[str | None]] = []
    for number, fields, values in rows:
        numbers.append(number)
        widths.append(fields)
        waiting.append(values)
        if len(waiting) == _CHUNK:
            chunks.append(_frame(waiting, wanted))
            waiting = []
    chunks.append(_frame(waiting, wanted))
    return Rows(pl.concat(chunks), numbers, widths, width, len(numbers) + len(problems) - found)


def _frame(rows: list[list[str | None]], wanted: dict[str, str]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict.fromkeys(wanted, pl.String), orient="row")


def _csv_rows(path: Path, columns: list[str], options: ReadOptions, on_bad: OnBad, strict: bool) -> tuple[int, Iterator[_Row]]:
    names = column_names(path, options)
    at = [names.index(column) for column in columns]

    def rows() -> Iterator[_Row]:
        table = quoted_rows(path, _separator(path, options), on_bad, options.encoding)
        next(table)
        for number, fields in table:
            if len(fields) > len(names) or (strict and len(fields) < len(names)):
                on_bad(BadRow(path.name, number, f"{len(fields)} columns where the header has {len(names)}"))
            else:
                yield number, len(fields), [fields[place] if place < len(fields) else None for place in at]

    return len(names), rows()


def _json_rows(path: Path, columns: list[str], encoding: str, on_bad: OnBad) -> Iterator[_Row]:
    for number, line in lines(path, encoding):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            values = [as_text(row.get(column)) for column in columns] if isinstance(row, dict) else None
        except (ValueError, RecursionError) as error:
            on_bad(BadRow(path.name, number, f"not JSON: {error}"))
            continue
        if values is None:
            on_bad(BadRow(path.name, number, "not a JSON object"))
        else:
            yield number, len(columns), values


def _typed_rows(path: Table, wanted: dict[str, str]) -> Rows:
    try:
        frame = _whole(_lazy(path).select(pl.col(column).alias(name) for name, column in wanted.items()).collect())
        nested = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List) and kind.inner == pl.String]
        frame = frame.with_columns(pl.col(nested).list.join(", ", ignore_nulls=True)) if nested else frame
        frame = frame.with_columns(pl.col(name).cast(pl.String) for name, kind in frame.schema.items() if not kind.is_temporal())
    except _POLARS as error:
        raise DataError(f"{path.name} cannot be read: {error}") from error
    return Rows(frame, list(range(1, frame.height + 1)), [len(wanted)] * frame.height, len(wanted), frame.height)


def _whole(frame: pl.DataFrame) -> pl.DataFrame:
    """Return columns of floats that hold whole numbers only as integers, and what is not a number as null.

    pandas makes floats of whole numbers as soon as one is missing: the user 7 would become 7.0, and the missing one the user NaN.
    """
    floats = [frame[name].fill_nan(None) for name, kind in frame.schema.items() if kind.is_float()]
    return frame.with_columns(
        values.cast(pl.Int64) if ((values == values.floor()) & (values.abs() < _EXACT)).all() else values for values in floats
    )


def _keys(path: Path, options: ReadOptions) -> list[str]:
    """Return the keys of the first rows, in order of appearance: a row may leave out what it does not know."""
    keys: dict[str, None] = {}
    rows = 0
    for _, line in lines(path, options.encoding):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            keys |= dict.fromkeys(as_text(key) or "" for key in row)
            rows += 1
        if rows == 1000:
            break
    if not rows:
        raise DataError(f"{path.name}: expected one JSON object a line; found none.")
    return list(keys)


def _lazy_csv(path: Path, options: ReadOptions, schema: Mapping[str, type[pl.DataType]]) -> pl.LazyFrame:
    separator = _separator(path, options)
    return pl.scan_csv(path, separator=separator, infer_schema=False, schema_overrides=schema, glob=False, with_column_names=_stripped)


def _lazy(path: Table) -> pl.LazyFrame:
    if isinstance(path, Frame):
        return path.table.lazy()
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    trouble = _parquet_trouble(path, status.st_size, status.st_mtime_ns)
    if trouble is not None:
        raise DataError(f"{path.name} cannot be read as Parquet: {trouble}")
    return pl.scan_parquet(path, glob=False)


@lru_cache(maxsize=8)
def _parquet_trouble(path: Path, size: int, changed: int) -> str | None:
    """Return what is wrong with a Parquet file that now has this size and time, or None.

    Polars ends the whole process on some damaged files, so a process of its own decodes each column first.
    """
    result = subprocess.run([sys.executable, "-c", _DECODE, str(path)], capture_output=True, check=False)
    if result.returncode == 0:
        return None
    reasons = [line for line in result.stdout.decode("utf-8", "replace").splitlines() if line.strip()]
    return reasons[0] if reasons else "it is damaged"


def _separator(path: Path, options: ReadOptions) -> str:
    """Return what separates the fields: as told, a tab in a TSV file, else the comma, semicolon or tab that the header has most of."""
    if options.delimiter is not None:
        if len(options.delimiter) != 1 or options.delimiter in '"\r\n' or ord(options.delimiter) > 127:
            raise DataError(f"--delimiter must be one ASCII character that is no quote and no line end; received {options.delimiter!r}.")
        return options.delimiter
    if file_kind(path) == "tsv":
        return "\t"
    _, header = next(lines(path, options.encoding), (0, ""))
    return max(",;\t|", key=header.count)


def _kind(path: Path) -> Kind:
    if not path.is_file():
        raise DataError(f"{path} is not a file.")
    kind = file_kind(path)
    if kind is None:
        raise DataError(f"{path.name}: unknown ending; tables end in {', '.join(sorted(_ENDINGS))}, each also with .gz.")
    return kind


def _stripped(names: list[str]) -> list[str]:
    return [name.strip() for name in names]


def _refuse_header(problem: BadRow) -> None:
    raise DataError(f"The header cannot be read: {problem}")
