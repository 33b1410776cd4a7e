"""Rows of CSV text under one reading of its quotes, and the reading that a file asks for.

A row is a line, or several where a quoted field holds line ends. The readings are those of `laserrec.data.options.Quoting`.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from laserrec.data.reading.rows import MOST_LETTERS, wrong_width

Reading = Literal["doubled", "backslash", "none"]
Lines = Iterator[tuple[int, str]]
_ESCAPED = re.compile(r'(\\+)"')
csv.field_size_limit(MOST_LETTERS)  # one limit for all formats; the library's own is an eighth of it
_CHANCE = 3
"""Separators that lines inside a quoted text may hold, just as many as rows have, and still be a text: more is no chance."""


class Record(NamedTuple):
    """One row as it stands in the file.

    Attributes:
        line: its first line.
        fields: its fields; none where its quotes are malformed.
        trouble: why it cannot be used, or None.
    """

    line: int
    fields: list[str]
    trouble: str | None = None


@dataclass(frozen=True)
class Layout:
    """What is known of a file's rows.

    Attributes:
        separator: one character.
        width: fields of a row.
        reading: what quotes mean.
        doubts: how many separators lines inside a quoted field may hold when each of them would be a row by itself; such a field is a
            stray quote that swallowed rows. None where quotes are believed, whatever they hold.
    """

    separator: str
    width: int
    reading: Reading = "doubled"
    doubts: int | None = None


def records(lines: Lines, layout: Layout) -> Iterator[Record]:
    """Yield the rows of a file; blank lines are passed over.

    A row that breaks the rules of quoting is one bad row, and reading goes on at the line after its first: a quote that is never closed
    costs one row and not the rest of the file.

    Args:
        lines: (number, line with its end).
        layout: how to read them.
    """
    feed = _Feed(lines, layout)
    quoted = csv.reader(feed, delimiter=layout.separator, strict=True)
    for number, line in feed.starts():
        if layout.reading == "none" or '"' not in line:
            fields = line.rstrip("\r\n").split(layout.separator)
        else:
            feed.push(number, line)
            try:
                fields = next(quoted)
            except csv.Error as error:
                yield Record(number, [], _broken(error, feed))
                feed.retry()
                continue
            if feed.swallowed():
                yield Record(number, [], "a quote is opened that joins this line with the rows below")
                feed.retry()
                continue
        if len(fields) == 1 and not fields[0].strip():
            continue
        yield Record(number, fields, _trouble(line, fields, layout.width))


def _trouble(line: str, fields: list[str], width: int) -> str | None:
    if len(fields) != width:
        return wrong_width(len(fields), width)
    if len(line) > MOST_LETTERS and (longest := max(map(len, fields))) > MOST_LETTERS:
        return f"a value of {longest:,} characters; at most {MOST_LETTERS:,} are read"
    return None


def _broken(error: csv.Error, feed: _Feed) -> str:
    if "field larger" in str(error):
        return f"a value of more than {MOST_LETTERS:,} characters"
    return f"malformed: {error}" if len(feed.taken) < 2 else "a quote is opened and not closed as it should be"


class _Feed:
    """Hands lines to csv.reader and can take back all but the first of a row."""

    def __init__(self, lines: Lines, layout: Layout) -> None:
        self._lines = lines
        self._layout = layout
        self._waiting: deque[tuple[int, str]] = deque()
        self.taken: list[tuple[int, str]] = []

    def starts(self) -> Lines:
        """Yield the lines that rows begin with."""
        while True:
            entry = self._waiting.popleft() if self._waiting else next(self._lines, None)
            if entry is None:
                return
            yield entry

    def push(self, number: int, line: str) -> None:
        """Let the next row begin with a line that was read."""
        self._waiting.appendleft((number, line))
        self.taken = []

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        entry = self._waiting.popleft() if self._waiting else next(self._lines)
        self.taken.append(entry)
        return _doubled(entry[1]) if self._layout.reading == "backslash" else entry[1]

    def swallowed(self) -> bool:
        """Return whether all further lines of the row that was read would be rows by themselves, against all chance."""
        if self._layout.doubts is None or len(self.taken) < 2:
            return False
        held = self._layout.width - 1
        return len(self.taken[1:]) * held > self._layout.doubts and all(
            line.count(self._layout.separator) == held for _, line in self.taken[1:]
        )

    def retry(self) -> None:
        self._waiting.extendleft(reversed(self.taken[1:]))


def _doubled(line: str) -> str:
    r"""Write quotes after a backslash as doubled ones; backslashes before a quote are escaped by another, others stand for themselves."""

    def plain(found: re.Match[str]) -> str:
        count = len(found[1])
        return "\\" * (count // 2) + '"' * (1 + count % 2)

    return _ESCAPED.sub(plain, line)


def layout_of(lines: Callable[[], Lines], separator: str, width: int) -> Layout:
    """Find out what the quotes of a file mean: RFC 4180's reading where all rows keep to it, else what leaves the fewest bad rows.

    Args:
        lines: starts reading the file's rows anew, without the header.
        separator: of fields.
        width: fields of a row.
    """
    kept, broken, escapes = _evidence(lines(), separator)
    doubled = Layout(separator, width, "doubled", _CHANCE - 1 if kept else 0)
    fewest = _bad(lines(), doubled)
    if not fewest:
        return doubled
    found = doubled
    others = [Layout(separator, width, "backslash", doubled.doubts)] if escapes else []
    # One stray quote is a slip; several, and more than fields that are quoted as they should be, are a file without quoting.
    others += [Layout(separator, width, "none")] if broken > max(1, kept) else []
    for layout in others:
        bad = _bad(lines(), layout)
        if bad < fewest:
            found, fewest = layout, bad
    return found


def _bad(lines: Lines, layout: Layout) -> int:
    return sum(record.trouble is not None for record in records(lines, layout))


def _evidence(lines: Lines, separator: str) -> tuple[int, int, bool]:
    """Return how many lines have well-quoted fields, how many break the rules when read alone, and whether a quote follows a backslash."""
    kept = broken = 0
    escapes = False
    for _, line in lines:
        if '"' not in line:
            continue
        escapes = escapes or '\\"' in line
        try:
            fields = next(csv.reader([line], delimiter=separator, strict=True))
        except csv.Error:
            broken += 1
        else:
            kept += fields != line.rstrip("\r\n").split(separator)
    return kept, broken, escapes
