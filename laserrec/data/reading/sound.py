"""Proves that a CSV file is so regular that any reader reads the same.

Regular is: each line is one row of as many fields, in UTF-8, with quotes as RFC 4180 has them or none.

Polars' reader checks little of that, and nothing in columns that are left out, so it is used for such files alone.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from laserrec.data.reading.rows import MOST_LETTERS

_BLOCK = 2**23  # bytes; large enough for NumPy to be quick, small enough for the caches
_NEWLINE, _QUOTE, _RETURN = b'\n"\r'


@dataclass(frozen=True)
class Regular:
    """What was proved of a file.

    Attributes:
        lines: lines, the header's included; each is one row.
        quoted: some fields are quoted.
    """

    lines: int
    quoted: bool


def prove_regular(path: Path, separator: str, width: int, quoting: bool) -> Regular | None:
    r"""Read a file's bytes once, and return what they prove, or None where they do not.

    Args:
        path: the file.
        separator: one ASCII character.
        width: fields of each line.
        quoting: quotes enclose fields; otherwise they are characters like others.
    """
    lines, quoted = 0, False
    for block in _whole_lines(path):
        if block is None or b"\0" in block or (b"\r" in block and block.count(b"\r") != block.count(b"\r\n")):
            return None
        if not block.isascii():
            try:
                block.decode()
            except UnicodeDecodeError:
                return None
        found = np.frombuffer(block, dtype=np.uint8)
        ends = (found == ord(separator)) | (found == _NEWLINE)
        if quoting and b'"' in block:
            inside = _inside_quotes(found, ends)
            if inside is None or (inside & (found == _NEWLINE)).any():
                return None
            ends &= ~inside
            quoted = True
        newline = found[np.flatnonzero(ends)] == _NEWLINE
        if len(newline) % width or not (newline.reshape(-1, width) == _one_line(width)).all():
            return None
        lines += len(newline) // width
    return Regular(lines, quoted)


def _one_line(width: int) -> NDArray[np.bool_]:
    """Return which of a line's ends of fields is the line's."""
    last: NDArray[np.bool_] = np.arange(width) == width - 1
    return last


def _inside_quotes(found: NDArray[np.uint8], ends: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Return which bytes lie between quotes, or None where quotes open or close where RFC 4180 has none.

    A doubled quote closes and opens again, so every second quote opens: after an end of a field or the quote that it doubles. The
    others close: before an end of a field or the quote that doubles them.
    """
    quotes = found == _QUOTE
    places = np.flatnonzero(quotes)
    if len(places) % 2:
        return None
    # A sum that overflows keeps its last bit, which is all that is asked of it.
    inside = (np.cumsum(quotes, dtype=np.uint8) & 1).astype(np.bool_)
    opening, closing = places[::2], places[1::2]
    before = np.where(opening > 0, opening - 1, 0)
    opens = (opening == 0) | ends[before] | quotes[before]
    closes = ends[closing + 1] | quotes[closing + 1] | (found[closing + 1] == _RETURN)
    return inside if opens.all() and closes.all() else None


def _whole_lines(path: Path) -> Iterator[bytes | None]:
    """Yield a file in blocks of whole lines, without a byte-order mark and with an end of the last line; None where a line is too long."""
    rest = b""
    with path.open("rb") as stream:
        if stream.read(3) != codecs.BOM_UTF8:
            stream.seek(0)
        while block := stream.read(_BLOCK):
            end = block.rfind(b"\n") + 1
            if not end:
                rest += block
                if len(rest) > 4 * MOST_LETTERS + _BLOCK:
                    yield None
                    return
                continue
            yield rest + block[:end] if rest else block[:end]
            rest = block[end:]
    if rest:
        yield rest + b"\n"
