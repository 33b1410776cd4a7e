"""Readers: one plain function a format, all with the same result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from laserrec.data.columns import plain_name
from laserrec.data.options import ReadOptions
from laserrec.data.raw import RawTables
from laserrec.data.reading.files import TableFile, table_files, tables_in
from laserrec.data.reading.jsonlines import first_keys
from laserrec.data.reading.memory import Tables
from laserrec.data.sources.amazon import read_amazon
from laserrec.data.sources.movielens import read_movielens
from laserrec.data.sources.recbole import read_recbole
from laserrec.data.sources.recformer import read_recformer
from laserrec.data.sources.service import is_address, read_service
from laserrec.data.sources.tabular import read_frames, read_tabular
from laserrec.errors import DataError

__all__ = ["Format", "infer_format", "read_source"]

Format = Literal["table", "movielens", "amazon", "recbole", "recformer"]


def read_source(source: Path | Tables | str, form: Format | None, options: ReadOptions) -> RawTables:
    """Read a source in its format, found out from its files when `form` is None.

    Args:
        source: a file, a folder with one dataset's files, tables in memory, or the address of a service's database.
        form: the format.
        options: columns, encoding, order.

    Raises:
        DataError: the source is absent, of no known format, cannot be read, or an option was given that its reader has no use for.
    """
    if isinstance(source, str) and is_address(source):
        if form is not None:
            raise DataError(f"A service's database is of no file's format; received {form!r}. Leave the format out.")
        return read_service(source, options)
    if isinstance(source, Tables):
        if form not in (None, "table"):
            raise DataError(f"Tables in memory are of no file's format; received {form!r}. Leave the format out.")
        return read_frames(source, options)
    source = Path(source) if isinstance(source, str) else source
    if not isinstance(source, Path):
        raise DataError(f"A source is a path, or Tables(interactions, items) of tables in memory; received {type(source).__name__}.")
    return _read_path(source, form, options)


def _read_path(source: Path, form: Format | None, options: ReadOptions) -> RawTables:
    files = table_files(source) if form in (None, "table") else None
    if files is None and not source.exists():
        raise DataError(f"{source} does not exist.")
    if options.items is not None and table_files(options.items) is None:
        raise DataError(f"There is no file of items {options.items}.", parameters=["items"])
    form = form or infer_format(source, files, options)
    if form == "table":
        return read_tabular(source, files, options)
    if form == "movielens":
        return read_movielens(source, options)
    if form == "amazon":
        return read_amazon(source, options)
    if form == "recbole":
        return read_recbole(source, options)
    if form == "recformer":
        return read_recformer(source if source.is_dir() else source.parent, options)
    raise DataError(f"Unknown format {form!r}; allowed are table, movielens, amazon, recbole and recformer.")


def infer_format(source: Path, files: Sequence[TableFile] | None, options: ReadOptions) -> Format:
    """Find out a source's format from the names of its files and, for reviews, of their columns.

    Args:
        source: a file or a folder.
        files: what `laserrec.data.reading.files.table_files` finds there.
        options: those of text files.

    Raises:
        DataError: the file's ending is none of the known ones.
    """
    if source.is_dir() and files is None:
        names = {file.name for file in source.iterdir() if file.is_file()}
        if {"train.json", "val.json", "test.json"} <= names:
            return "recformer"
        if names & {"u.data", "ratings.dat"} or {"ratings.csv", "movies.csv"} <= names:
            return "movielens"
        if any(name.endswith(".inter") for name in names):
            return "recbole"
        if any(name.startswith("meta_") for name in names):
            return "amazon"
        lines = [file.path for file in tables_in(source) if file.kind == "jsonl"]
        return "amazon" if len(lines) == 1 and _is_reviews(lines[0], options) else "table"
    if source.name in {"u.data", "ratings.dat"}:
        return "movielens"
    if source.suffix == ".inter":
        return "recbole"
    kinds = {file.kind for file in files or ()}
    if kinds <= {None}:
        message = f"{source.name}: cannot tell the format from its ending. Name it; formats are {', '.join(get_args(Format))}."
        raise DataError(message, parameters=["format"])
    return "amazon" if source.is_file() and kinds == {"jsonl"} and _is_reviews(source, options) else "table"


def _is_reviews(file: Path, options: ReadOptions) -> bool:
    names = {plain_name(name) for name in first_keys(file, options)}
    return "unixreviewtime" in names or {"parentasin", "userid", "timestamp"} <= names
