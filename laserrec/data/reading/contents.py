"""What a file holds once it is unpacked: bytes, or lines of text in any encoding. Knows nothing of fields and quotes."""

from __future__ import annotations

import codecs
import gzip
import os
import shutil
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from laserrec.errors import DataError

_ALWAYS_UNPACKED = 2**28  # bytes; no machine that trains a model is harmed by them
_USUAL_RATIO = 100  # logs shrink to a tenth or a thirtieth; only repetition, or an attack, goes far beyond
_BLOCK = 2**20  # bytes that are unpacked at a time
_SHOWN = 64  # bytes from which a text without a mark is known to be UTF-16


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into a DataError that names the file."""
    try:
        yield
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


class PlainFile:
    """The bytes of a table's file: the file itself, or a temporary one with what it unpacks to, which goes when this goes.

    Attributes:
        path: where the bytes lie.
    """

    def __init__(self, source: Path, most_gib: float | None = None) -> None:
        """Unpack a file if it is packed.

        Args:
            source: a plain file, or one by gzip, or a zip that holds one file.
            most_gib: how many GiB it may unpack to; 100 times its size, at least 0.25, when None.

        Raises:
            DataError: it cannot be read, unpacks to more, or the disk has no room for it.
        """
        self.path = source
        with readable(source):
            with source.open("rb") as stream:
                start = stream.read(4)
            if start[:2] == b"\x1f\x8b":
                with gzip.open(source, "rb") as unpacking:
                    self._unpack(source, unpacking, most_gib)  # type: ignore[arg-type]
            elif start == b"PK\x03\x04" and source.suffix.lower() == ".zip":
                with zipfile.ZipFile(source) as archive, archive.open(_member(source, archive)) as unpacking:
                    self._unpack(source, unpacking, most_gib)

    def _unpack(self, source: Path, unpacking: IO[bytes], most_gib: float | None) -> None:
        size = source.stat().st_size
        most = int(most_gib * 2**30) if most_gib is not None else max(_ALWAYS_UNPACKED, _USUAL_RATIO * size)
        handle, name = tempfile.mkstemp(prefix="laserrec-", suffix=source.suffix)
        self.path = Path(name)
        weakref.finalize(self, self.path.unlink, missing_ok=True)
        room = shutil.disk_usage(self.path.parent).free // 2
        written = 0
        with os.fdopen(handle, "wb") as plain:
            while block := unpacking.read(_BLOCK):
                written += len(block)
                if written > most:
                    raise DataError(
                        f"{source.name} ({size:,} bytes) unpacks to more than {most / 2**30:.2f} GiB, which is more than such files "
                        "usually do. If it is what it should be, allow more.",
                        parameters=["max_unpacked_gib"],
                    )
                if written > room:
                    raise DataError(
                        f"{source.name} unpacks to more than half of what is free in {self.path.parent} ({room / 2**30:.2f} GiB). Make "
                        "room there, or name another folder in the environment variable TMPDIR."
                    )
                plain.write(block)


class TextFile(PlainFile):
    """A text file, packed or not, that does not begin as one in another encoding does.

    Attributes:
        path: where its bytes lie.
        is_utf_8: its encoding is UTF-8.
    """

    def __init__(self, source: Path, encoding: str = "utf-8", most_gib: float | None = None) -> None:
        """Unpack a file if it is packed, and look at its first bytes.

        Args:
            source: the file, which messages name.
            encoding: of the text; a byte-order mark is passed over.
            most_gib: how many GiB it may unpack to, as in `PlainFile`.

        Raises:
            DataError: the file cannot be read or is in another encoding, or there is no such encoding.
        """
        super().__init__(source, most_gib)
        self._source = source
        self._encoding = encoding
        try:
            codec = codecs.lookup(encoding).name
            " ".encode(encoding)
        except (LookupError, UnicodeError, ValueError) as error:
            message = f"The encoding {encoding[:40]!r} is none of text; examples are utf-8, latin-1, cp1252, utf-16."
            raise DataError(message, parameters=["encoding"]) from error
        self.is_utf_8 = codec in ("utf-8", "utf-8-sig")
        self._is_wide = codec.startswith(("utf-16", "utf-32"))
        with readable(source), self.path.open("rb") as stream:
            start = stream.read(_SHOWN)
        if self._is_wide or len(start) < 4:
            return
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise DataError(f"{source.name} is UTF-16. Give the encoding utf-16.", parameters=["encoding"])
        for ending, zeros in (("le", start[1::2]), ("be", start[::2])):
            # Letters of most languages of Europe have a zero byte in UTF-16, and no other encoding has any.
            if zeros.count(0) > len(zeros) / 2:
                message = f"{source.name} looks like UTF-16 without a mark. Give the encoding utf-16-{ending}."
                raise DataError(message, parameters=["encoding"])

    def lines(self, after: int = 0) -> Iterator[tuple[int, str]]:
        r"""Yield (number from 1, line with its end), from the line after some on; lines end in \n, \r\n or \r and in nothing else.

        Raises:
            DataError: the file cannot be read, or is not in its encoding.
        """
        with readable(self._source), self.path.open(encoding=self._encoding, newline="") as stream:
            try:
                for number, line in enumerate(stream, start=1):
                    if number > after:
                        yield number, line if number > 1 else line.removeprefix("\ufeff")
            except UnicodeDecodeError as error:
                raise self._not_encoded(error) from error
            except UnicodeError as error:  # a mark that is missing
                raise DataError(
                    f"{self._source.name} is not {self._encoding}: {error}. Give the file's encoding, for example utf-8.",
                    parameters=["encoding"],
                ) from error

    def first_line(self) -> tuple[int, str]:
        """Return (number, line) of the first line that is not blank; (0, "") where there is none."""
        return next(((number, line) for number, line in self.lines() if line.strip()), (0, ""))

    def _not_encoded(self, error: UnicodeDecodeError) -> DataError:
        """Return an error that names the line, which the decoder, working on blocks, does not know."""
        where = self._source.name
        if not self._is_wide:
            with self.path.open("rb") as stream:
                for number, raw in enumerate(stream, start=1):
                    try:
                        raw.decode(self._encoding)
                    except UnicodeDecodeError as found:
                        where, error = f"{where}:{number}", found
                        break
        context = error.object[max(0, error.start - 12) : error.start + 12]
        return DataError(
            f"{where}: not {self._encoding}: byte 0x{error.object[min(error.start, len(error.object) - 1)]:02x} in {context!r}. "
            "Give the file's encoding, for example latin-1 or cp1252.",
            parameters=["encoding"],
        )


def zip_member(path: Path) -> str:
    """Return the name of the one file in a zip.

    Raises:
        DataError: it cannot be read, or holds another number of files.
    """
    with readable(path), zipfile.ZipFile(path) as archive:
        return _member(path, archive).filename


def _member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """Return the one file in a zip; what macOS adds is passed over."""
    found = [entry for entry in archive.infolist() if not entry.is_dir() and not entry.filename.startswith("__MACOSX/")]
    if len(found) != 1:
        names = ", ".join(entry.filename[:60] for entry in found[:5]) or "none"
        raise DataError(f"{path.name} must hold one file; it holds {len(found)}: {names}. Unpack it and give the folder or the file.")
    return found[0]
