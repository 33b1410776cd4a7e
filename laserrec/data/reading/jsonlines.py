"""JSON lines: one object a line, read row by row."""

from __future__ import annotations

import json
from array import array
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from laserrec.data.options import ReadOptions
from laserrec.data.reading.contents import TextFile
from laserrec.data.reading.rows import MOST_LETTERS, EmptyFileError, Places, Rows, check_width
from laserrec.data.reading.typed import from_python, joined
from laserrec.data.tables import BadRow
from laserrec.errors import DataError

_CHUNK = 50_000  # rows that become columns at a time


def first_keys(path: Path, options: ReadOptions) -> list[str]:
    """Return the keys of a file's first line, without reading on; none where it is no object.

    Raises:
        DataError: the file cannot be read.
    """
    _, line = TextFile(path, options.encoding, options.max_unpacked_gib).first_line()
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return []
    return list(row) if isinstance(row, dict) else []


class JsonLines:
    """One file of JSON objects, all their keys known.

    Attributes:
        name: of the file.
        columns: keys of all rows, in order of appearance: a row may leave out what it does not know.
        notes: none.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, options: ReadOptions) -> None:
        """Read all rows' keys.

        Raises:
            DataError: the file cannot be read, or holds no object.
        """
        self.name = path.name
        self._text = TextFile(path, options.encoding, options.max_unpacked_gib)
        self._keys: dict[str, str] = {}  # as columns are called, and as the file has them
        known: set[str] = set()
        bad: list[BadRow] = []
        # A pass for the keys alone, .4 of the time that a file takes (.5 of 1.2 s for 200,000 rows): which columns are read is decided
        # when all are known, and rows kept until then would hold the values of the others too.
        for number, row in self._objects(bad):
            if row.keys() <= known:
                continue
            for key in (key for key in row if key not in known):
                known.add(key)
                name = key.strip()
                if name in self._keys:
                    raise DataError(f"{self.name}:{number}: the keys {self._keys[name]!r} and {key!r} differ in white space alone.")
                if name:
                    self._keys[name] = key
            check_width(self.name, len(known))
        if not known:
            raise (DataError if bad else EmptyFileError)(
                f"{path.name}: expected one JSON object a line; found none.{''.join(f' {row}.' for row in bad[:1])}"
            )
        self.columns = list(self._keys)

    def read(self, wanted: Sequence[str], numbers: Collection[str] = ()) -> Rows:
        """Return some columns; see `laserrec.data.reading.rows.AnyTable.read`."""
        bad: list[BadRow] = []
        places = array("q")
        chunks: dict[str, list[pl.Series]] = {name: [pl.Series(name, [], dtype=pl.String)] for name in wanted}
        waiting: list[dict[str, Any]] = []

        def settle() -> None:
            for name, parts in chunks.items():
                key = self._keys.get(name, name)  # a part of a table may have no row with a key that others have
                parts.append(from_python(name, [row.get(key) for row in waiting]))
            waiting.clear()

        for number, row in self._objects(bad):
            places.append(number)
            waiting.append(row)
            if len(waiting) == _CHUNK:
                settle()
        settle()
        return Rows(pl.DataFrame([joined(parts) for parts in chunks.values()]), (Places(self.name, places),), bad)

    def _objects(self, bad: list[BadRow]) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in self._text.lines():
            if not line.strip():
                continue
            try:
                row = _READER.decode(line.rstrip("\r\n"))
                if not isinstance(row, dict):
                    raise ValueError("not a JSON object")
                if "\\u" in line and "\\ud" in line.lower():
                    row = _writable(row)
                if len(line) > MOST_LETTERS and any(isinstance(value, str) and len(value) > MOST_LETTERS for value in row.values()):
                    raise ValueError(f"a value of more than {MOST_LETTERS:,} characters")
            except json.JSONDecodeError as error:
                bad.append(BadRow(self.name, number, f"not JSON: {error}"))
            except RecursionError:
                bad.append(BadRow(self.name, number, "nested too deeply"))
            except ValueError as error:
                bad.append(BadRow(self.name, number, str(error).partition(";")[0]))
            else:
                yield number, row


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:40]!r} occurs twice")
    return row


_READER = json.JSONDecoder(object_pairs_hook=_distinct)


def _writable(value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Return a value with a question mark for what no encoding can write, such as half of a pair of escapes."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, list):
        return [_writable(entry) for entry in value]
    if isinstance(value, dict):
        return {_writable(key): _writable(entry) for key, entry in value.items()}
    return value
