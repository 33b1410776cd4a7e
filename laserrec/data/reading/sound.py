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

from laserrec.data.reading.quotes import Layout
from laserrec.data.reading.rows import MOST_LETTERS

_BLOCK = 2**18  # bytes; small enough for the caches
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


def prove_regular(path: Path, layout: Layout) -> Regular | None:
    r"""Read a file's bytes once, and return what they prove, or None where they do not.

    Args:
        path: the file.
        layout: the separator, an ASCII character; the fields of each line; and what quotes mean.
    """
    width, quoting = layout.width, layout.reading != "none"
    if width < 2:
        return None  # blank lines, which are no rows, would pass for rows of one field
    line = layout.separator.encode() * (width - 1) + b"\n"
    others = bytes(set(range(256)) - set(line) - set(b'\0\n\r"' if quoting else b"\0\n\r"))
    lines, quoted = 0, False
    for block in _whole_lines(path):
        if block is None or not _is_utf_8(block):
            return None
        # Without all other characters regular lines without quotes are one pattern, repeated: the quickest proof there is.
        ends = block.translate(None, others)
        if ends != line * (len(ends) // width):
            ends = _outside_quotes(block, layout.separator) if quoting else block.replace(b"\r\n", b"\n").translate(None, others)
            if not ends or ends != line * (len(ends) // width):
                return None
            quoted = quoting and (quoted or b'"' in block)
            if quoted and layout.reading == "backslash":
                return None
        lines += len(ends) // width
    return Regular(lines, quoted)


def _is_utf_8(block: bytes) -> bool:
    if block.isascii():
        return True
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _outside_quotes(block: bytes, separator: str) -> bytes:
    """Return a block's separators and ends of lines that no quotes enclose, or nothing where quotes open or close as RFC 4180 forbids.

    A doubled quote closes and opens again, so every second quote opens: after an end of a field or the quote that it doubles. The
    others close: before an end of a field or the quote that doubles them.
    """
    if b"\0" in block or block.count(b"\r") != block.count(b"\r\n"):
        return b""
    found = np.frombuffer(block, dtype=np.uint8)
    ends = (found == ord(separator)) | (found == _NEWLINE)
    quotes = found == _QUOTE
    places = np.flatnonzero(quotes)
    opening, closing = places[::2], places[1::2]
    # A sum that overflows keeps its last bit, which is all that is asked of it.
    inside = (np.cumsum(quotes, dtype=np.uint8) & 1).astype(np.bool_)
    before = np.where(opening > 0, opening - 1, 0)
    opens = (opening == 0) | ends[before] | quotes[before]
    if len(places) % 2 or not opens.all() or (inside & (found == _NEWLINE)).any():
        return b""
    closes = ends[closing + 1] | quotes[closing + 1] | (found[closing + 1] == _RETURN)
    return found[ends & ~inside].tobytes() if closes.all() else b""


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
                if len(rest) > MOST_LETTERS // 2:  # whoever checks the length of values has to read this
                    yield None
                    return
                continue
            yield rest + block[:end] if rest else block[:end]
            rest = block[end:]
    if rest:
        yield rest + b"\n"
