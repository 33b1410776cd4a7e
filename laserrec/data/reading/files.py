"""Which files are one table, and of what kind each is."""

from __future__ import annotations

import glob
import re
from pathlib import Path
from typing import Literal, NamedTuple

from laserrec.data.reading.contents import zip_member
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


class TableFile(NamedTuple):
    """A file of a table, and its kind: None where its ending is none of a table's."""

    path: Path
    kind: Kind | None


def file_kind(path: Path) -> Kind | None:
    """Return the kind of a table by its file's ending, or by that of the one file in a zip; None where it is none of a table's."""
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".zip"):
        kind = _ENDINGS.get(Path(name.removesuffix(".zip")).suffix)
        if kind is not None or not path.is_file():
            return kind
        try:
            name = zip_member(path).lower()
        except DataError:
            return None
    return _ENDINGS.get(Path(name).suffix)


def unknown_kind(path: Path) -> DataError:
    """Return what is wrong with a file that is no table's."""
    if path.suffix.lower() == ".zip":
        zip_member(path)  # raises where the zip itself is what is wrong
    return DataError(f"{path.name}: unknown ending; tables end in {', '.join(sorted(_ENDINGS))}, each also with .gz or .zip.")


def tables_in(folder: Path) -> list[TableFile]:
    """Return the files of tables in a folder, by name; those that begin with a full stop or an underscore are a tool's own."""
    files = (TableFile(file, file_kind(file)) for file in sorted(folder.iterdir()) if file.is_file() and file.name[0] not in "._")
    return [file for file in files if file.kind is not None]


def table_files(source: Path) -> list[TableFile] | None:
    """Return the files that are one table together, or None where the source is no table: it is not there, or a folder of several.

    Args:
        source: a file; a folder of part files, as Spark writes them; or a pattern such as `logs/2026-*.csv`.

    Raises:
        DataError: the folder's parts lie in folders that hold values.
    """
    if source.is_dir():
        divided = sorted(folder.name for folder in source.iterdir() if folder.is_dir() and "=" in folder.name)
        if divided:
            raise DataError(f"{source} is divided into folders such as {divided[0]!r}, whose values would be lost. Write it undivided.")
        parts = tables_in(source)
        return parts if parts and all(_PART.match(part.path.name) for part in parts) else None
    if source.is_file():
        found = [source]
    else:
        found = [Path(name) for name in sorted(glob.glob(str(source), recursive=True))] if glob.has_magic(str(source)) else []
    return [TableFile(file, file_kind(file)) for file in found if file.is_file()] or None
