"""Lines of text files, in any encoding, with their numbers. Knows nothing of fields and quotes."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from laserrec.data.reading.files import PlainFile, readable
from laserrec.errors import DataError

_UTF_8 = {"utf-8", "utf8", "utf-8-sig"}
_SHOWN = 64  # bytes from which a text without a mark is known to be UTF-16


def is_utf_8(encoding: str) -> bool:
    """Return whether an encoding's name is one of UTF-8's."""
    return encoding.lower().replace("_", "-") in _UTF_8


def check_encoding(path: Path, plain: PlainFile, encoding: str) -> None:
    """Refuse what is no encoding of texts, and a file that begins as another one does.

    Raises:
        DataError: with the option that reads the file.
    """
    try:
        wide = _is_wide(encoding)
        " ".encode(encoding)
    except (LookupError, UnicodeError, ValueError) as error:
        raise DataError(f"--encoding {encoding[:40]!r} is not a text encoding; examples are utf-8, latin-1, cp1252, utf-16.") from error
    with readable(path), plain.path.open("rb") as stream:
        start = stream.read(_SHOWN)
    if wide or len(start) < 4:
        return
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path.name} is UTF-16. Pass --encoding utf-16.")
    for ending, zeros in (("le", start[1::2]), ("be", start[::2])):
        # Letters of most languages of Europe have a zero byte in UTF-16, and no other encoding has any.
        if zeros.count(0) > len(zeros) / 2:
            raise DataError(f"{path.name} looks like UTF-16 without a mark. Pass --encoding utf-16-{ending}.")


def raw_lines(path: Path, plain: PlainFile, encoding: str) -> Iterator[tuple[int, str]]:
    r"""Yield (number from 1, line with its end) of a text file; lines end in \n, \r\n or \r and in nothing else.

    Args:
        path: the file that messages name.
        plain: its bytes.
        encoding: of the text; a byte-order mark is passed over.

    Raises:
        DataError: the file cannot be read, or is not in this encoding.
    """
    with readable(path), plain.path.open(encoding=encoding, newline="") as stream:
        try:
            for number, line in enumerate(stream, start=1):
                yield number, line if number > 1 else line.removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            raise _not_encoded(path, plain, encoding, error) from error
        except UnicodeError as error:  # a mark that is missing
            raise DataError(f"{path.name} is not {encoding}: {error}. Pass the file's encoding, for example --encoding utf-8.") from error


def lines(path: Path, encoding: str = "utf-8", most_gib: float | None = None) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line without its end) of a text file, packed or not.

    Args:
        path: the file.
        encoding: of the text.
        most_gib: how many GiB it may unpack to, as in `PlainFile`.

    Raises:
        DataError: the file cannot be read, or is not in this encoding.
    """
    plain = PlainFile(path, most_gib)
    check_encoding(path, plain, encoding)
    for number, line in raw_lines(path, plain, encoding):
        yield number, line.rstrip("\r\n")


def plain_rows(path: Path, separator: str, encoding: str = "utf-8") -> Iterator[tuple[int, list[str]]]:
    """Yield (line, fields) of a file without quoting; blank lines are passed over."""
    for number, line in lines(path, encoding):
        if line.strip():
            yield number, line.split(separator)


def _not_encoded(path: Path, plain: PlainFile, encoding: str, error: UnicodeDecodeError) -> DataError:
    """Return an error that names the line, which the decoder, working on blocks, does not know."""
    where = path.name
    if not _is_wide(encoding):
        with plain.path.open("rb") as stream:
            for number, raw in enumerate(stream, start=1):
                try:
                    raw.decode(encoding)
                except UnicodeDecodeError as found:
                    where, error = f"{path.name}:{number}", found
                    break
    context = error.object[max(0, error.start - 12) : error.start + 12]
    return DataError(
        f"{where}: not {encoding}: byte 0x{error.object[min(error.start, len(error.object) - 1)]:02x} in {context!r}. "
        "Pass the file's encoding, for example --encoding latin-1 or --encoding cp1252."
    )


def _is_wide(encoding: str) -> bool:
    return codecs.lookup(encoding).name.startswith(("utf-16", "utf-32"))
