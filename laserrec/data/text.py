"""Text files read row by row, with the line of everything that goes wrong.

Knows what a line, a field and a quote are; nothing of what columns mean.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from laserrec.data.tables import BadRow
from laserrec.errors import DataError

OnBad = Callable[[BadRow], None]


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into a DataError that names the file."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if zipped else path.open("rb")  # type: ignore[return-value]


def lines(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line without its end) of a text file, gzip or not.

    Raises:
        DataError: the file cannot be read, or is not in this encoding.
    """
    try:
        wide = codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))
        " ".encode(encoding)
    except (LookupError, UnicodeError, ValueError) as error:
        raise DataError(f"--encoding {encoding!r} is not a text encoding; examples are utf-8, latin-1, cp1252, utf-16.") from error
    with readable(path):
        if wide:
            yield from _wide_lines(path, encoding)
            return
        with _open(path) as stream:
            for number, raw in enumerate(stream, start=1):
                if number == 1:
                    raw = raw.removeprefix(codecs.BOM_UTF8)
                    _refuse_wide(path, raw)
                try:
                    yield number, raw.decode(encoding).rstrip("\r\n")
                except UnicodeDecodeError as error:
                    raise _not_encoded(path, number, encoding, error) from error


def _wide_lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    with _open(path) as stream:
        try:
            for number, line in enumerate(codecs.getreader(encoding)(stream), start=1):
                yield number, line.removeprefix("\ufeff").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not {encoding}: {error}") from error


def _refuse_wide(path: Path, start: bytes) -> None:
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path} is UTF-16. Pass --encoding utf-16.")


def _not_encoded(path: Path, number: int, encoding: str, error: UnicodeDecodeError) -> DataError:
    context = error.object[max(0, error.start - 12) : error.start + 12]
    return DataError(
        f"{path.name}:{number}: not {encoding}: byte 0x{error.object[error.start]:02x} in {context!r}. "
        "Pass the file's encoding, for example --encoding latin-1 or --encoding cp1252."
    )


def plain_rows(path: Path, separator: str, encoding: str = "utf-8") -> Iterator[tuple[int, list[str]]]:
    """Yield (line, fields) of a file without quoting; blank lines are passed over."""
    for number, line in lines(path, encoding):
        if line.strip():
            yield number, line.split(separator)


def quoted_rows(path: Path, separator: str, on_bad: OnBad, encoding: str = "utf-8") -> Iterator[tuple[int, list[str]]]:
    """Yield (first line, fields) of a file with quoted fields, which may hold separators, doubled quotes and line ends.

    A row that breaks the rules of quoting is reported and reading goes on at the line after its first, so that a quote that is
    never closed costs one row and not the rest of the file.
    """
    feed = _Feed(lines(path, encoding))
    reader = csv.reader(feed, delimiter=separator, strict=True)
    while True:
        feed.begin()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = f"malformed: {error}" if len(feed.taken) < 2 else "a quote is opened and not closed as it should be"
            on_bad(BadRow(path.name, feed.first, reason))
            feed.retry()
            continue
        if any(field.strip() for field in fields):
            yield feed.first, fields


class _Feed:
    """Hands lines to csv.reader and can take back all but the first of a row."""

    def __init__(self, source: Iterator[tuple[int, str]]) -> None:
        self._source = source
        self._waiting: deque[tuple[int, str]] = deque()
        self.taken: list[tuple[int, str]] = []

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        entry = self._waiting.popleft() if self._waiting else next(self._source)
        self.taken.append(entry)
        return entry[1] + "\n"

    def begin(self) -> None:
        self.taken = []

    def retry(self) -> None:
        self._waiting.extendleft(reversed(self.taken[1:]))

    @property
    def first(self) -> int:
        return self.taken[0][0] if self.taken else 0
