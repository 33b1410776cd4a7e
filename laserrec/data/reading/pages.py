"""The checksums of a Parquet file's pages, which Polars does not compare.

Knows of the format (parquet.thrift, in Thrift's compact encoding) what leads from the footer to every page, and nothing of values.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

_TAIL = 8  # bytes: the footer's length, and the name of the format
_LONGEST = 2**26  # bytes of a footer or of a page's header, which a hostile one could make into many times as many
_BITS = 64  # of a number
_CELL = 8  # bytes of memory that any value takes on its way to a dataset
_NESTED = 40  # and one in a list or a record, which becomes an object of Python
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_UNREADABLE = (AttributeError, IndexError, KeyError, TypeError, UnicodeDecodeError, RecursionError, struct.error)


class Pages:
    """The pages of one file, found by its footer.

    Attributes:
        rows: how many rows the footer promises.
    """

    def __init__(self, path: Path) -> None:
        """Read the footer.

        Raises:
            ValueError: it cannot be followed.
        """
        self._path = path
        with path.open("rb") as file:  # closed again: a table may have more parts than a process may open files
            end = file.seek(0, os.SEEK_END) - _TAIL
            file.seek(max(end, 0))
            tail = file.read()
            size = int.from_bytes(tail[:4], "little")
            if tail[4:] != b"PAR1" or size > min(end, _LONGEST):
                raise ValueError("it does not end as Parquet does")
            file.seek(end - size)
            footed = file.read(size)
        try:
            footer = _Thrift(memoryview(footed)).struct()
            self.rows = int(footer[3])
            self._chunks = [_Chunk.of(column[3]) for group in footer.get(4, []) for column in group[1]]
        except _UNREADABLE as error:
            raise ValueError("its footer is damaged") from error

    def least_memory(self, columns: Collection[str]) -> int:
        """Return how many bytes the values of some columns take at least, as the footer has it."""
        nested = sum(chunk.values for chunk in self._chunks if chunk.is_nested and chunk.column in columns)
        return _CELL * self.rows * len(columns) + _NESTED * nested

    def check(self, columns: Collection[str]) -> None:
        """Compare the pages of some columns with their checksums; a page without one is passed over.

        Raises:
            ValueError: a page is damaged or cannot be found.
        """
        with self._path.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        left = len(data)
        for chunk in self._chunks:
            try:
                left -= self._check_chunk(data, chunk) if chunk.column in columns else 0
            except _UNREADABLE as error:
                raise ValueError("a page cannot be found: the footer or the header of a page is damaged") from error
            if left < 0:  # a byte is of one page, so that this ends
                raise ValueError("its pages overlap")

    def _check_chunk(self, data: memoryview, chunk: _Chunk) -> int:
        """Compare the pages of one chunk; return their bytes."""
        at, values = chunk.start, chunk.values
        while values > 0:
            header = _Thrift(data[at : at + _LONGEST])
            page = header.struct()
            body = at + header.at
            end = body + page[3]
            if not body <= end <= len(data):
                raise ValueError(f"a page of the column {chunk.column!r} goes beyond the end of the file")
            if 4 in page and zlib.crc32(data[body:end]) != page[4] & 0xFFFFFFFF:
                raise ValueError(f"a page of the column {chunk.column!r} does not match its checksum")
            values -= (page.get(5) or page.get(8) or {1: 0})[1]
            at = end
        return at - chunk.start


class _Chunk(NamedTuple):
    """One column's pages of one group of rows, end to end from `start` on."""

    column: str
    is_nested: bool
    values: int
    start: int

    @classmethod
    def of(cls, found: dict[int, Any]) -> _Chunk:
        """Read what the footer says of it; a page with a dictionary, where there is one, comes first."""
        path = found[3]
        return cls(path[0].decode(), len(path) > 1, int(found[5]), int(found.get(11) or found[9]))


class _Thrift:
    """Reads values in Thrift's compact encoding; structs become dicts of values by the numbers of their fields."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.at = 0

    def struct(self) -> dict[int, Any]:
        found: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            step, kind = head >> 4, head & 15
            number = number + step if step else self._number()
            found[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind)
        return found

    def _value(self, kind: int) -> Any:  # noqa: ANN401 - what Thrift holds
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if kind < _DOUBLE:
            return self._number()
        if kind in (_DOUBLE, _BINARY):
            size = 8 if kind == _DOUBLE else self._unsigned()
            self.at += size
            return bytes(self._data[self.at - size : self.at])
        if kind in (_LIST, _SET):
            head = self._byte()
            size = head >> 4 if head < 0xF0 else self._unsigned()
            return [self._value(head & 15) for _ in range(size)]
        if kind == _STRUCT:
            return self.struct()
        if kind == _MAP and (size := self._unsigned()):
            kinds = self._byte()
            return [(self._value(kinds >> 4), self._value(kinds & 15)) for _ in range(size)]
        raise ValueError(f"a header has a field of type {kind}")

    def _byte(self) -> int:
        value = self._data[self.at]
        self.at += 1
        return value

    def _unsigned(self) -> int:
        value = 0
        for shift in range(0, _BITS, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number of a header does not end")

    def _number(self) -> int:
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)
