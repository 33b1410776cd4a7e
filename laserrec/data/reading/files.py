"""Which files are one table, what kind they are, and where their bytes lie once they are unpacked."""

from __future__ import annotations

import glob
import gzip
import os
import re
import shutil
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

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
_PART = re.compile(r"part[-_.]?\d", re.IGNORECASE)  # Spark's part-00000-…, and what others call so
_ALWAYS_UNPACKED = 2**28  # bytes; no machine that trains a model is harmed by them
_USUAL_RATIO = 100  # logs shrink to a tenth or a thirtieth; only repetition, or an attack, goes far beyond
_BLOCK = 2**20


def file_kind(path: Path) -> Kind | None:
    """Return the kind of a table by its file's ending, or by that of the one file in a zip; None where it is none of a table's."""
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".zip"):
        kind = _ENDINGS.get(Path(name.removesuffix(".zip")).suffix)
        if kind is not None or not path.is_file():
            return kind
        try:
            name = _member_of(path)
        except DataError:
            return None
    return _ENDINGS.get(Path(name).suffix)


def known_kind(path: Path) -> Kind:
    """Return the kind of a table's file.

    Raises:
        DataError: it is no file, or its ending is none of a table's.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file.")
    kind = file_kind(path)
    if kind is None and path.suffix.lower() == ".zip":
        _member_of(path)
    if kind is None:
        raise DataError(f"{path.name}: unknown ending; tables end in {', '.join(sorted(_ENDINGS))}, each also with .gz or .zip.")
    return kind


def tables_in(folder: Path) -> list[Path]:
    """Return the files of tables in a folder, by name; those that begin with a full stop or an underscore are a tool's own."""
    files = (file for file in sorted(folder.iterdir()) if file.is_file() and file.name[0] not in "._")
    return [file for file in files if file_kind(file) is not None]


def parts_of(source: Path) -> list[Path] | None:
    """Return the files that are one table together, or None where the source is no table: it is not there, or a folder of several.

    Args:
        source: a file; a folder of part files, as Spark writes them; or a pattern such as `logs/2026-*.csv`.

    Raises:
        DataError: the folder's parts lie in folders that hold values.
    """
    if source.is_file():
        return [source]
    if source.is_dir():
        divided = sorted(folder.name for folder in source.iterdir() if folder.is_dir() and "=" in folder.name)
        if divided:
            raise DataError(f"{source} is divided into folders such as {divided[0]!r}, whose values would be lost. Write it undivided.")
        files = tables_in(source)
        return files if files and all(_PART.match(file.name) for file in files) else None
    if not glob.has_magic(str(source)):
        return None
    return [file for file in map(Path, sorted(glob.glob(str(source), recursive=True))) if file.is_file()] or None


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into a DataError that names the file."""
    try:
        yield
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
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
                with _zip(source) as archive, archive.open(_member(source, archive)) as unpacking:
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
                        "usually do. If it is what it should be, allow more with --max-unpacked-gib."
                    )
                if written > room:
                    raise DataError(
                        f"{source.name} unpacks to more than half of what is free in {self.path.parent} ({room / 2**30:.2f} GiB). Make "
                        "room there, or name another folder in the environment variable TMPDIR."
                    )
                plain.write(block)


def _member_of(path: Path) -> str:
    with _zip(path) as archive:
        return _member(path, archive).filename.lower()


def _zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """Return the one file in a zip; what macOS adds is passed over."""
    found = [entry for entry in archive.infolist() if not entry.is_dir() and not entry.filename.startswith("__MACOSX/")]
    if len(found) != 1:
        names = ", ".join(entry.filename[:60] for entry in found[:5]) or "none"
        raise DataError(f"{path.name} must hold one file; it holds {len(found)}: {names}. Unpack it and give the folder or the file.")
    return found[0]
