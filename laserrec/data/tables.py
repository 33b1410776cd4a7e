"""What a reader hands over, before any filtering or splitting.

Knows nothing of file formats. Column names and the record of a bad row live here, so every reader speaks the same words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

USER = "user_id"
ITEM = "item_id"
TIME = "timestamp"
PART = "part"
TITLE = "title"
PARTS = ("train", "valid", "test")
PART_TYPE = pl.Enum(PARTS)
MICROSECONDS = 1_000_000
"""Readers give times in microseconds, so that events within one second keep their order; a dataset stores seconds."""


@dataclass(frozen=True)
class BadRow:
    """A row that could not be used.

    Attributes:
        file: name of the file.
        line: its first line, from 1 (the row, for formats without lines).
        reason: what is wrong with it.
    """

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


@dataclass(frozen=True)
class SourceFile:
    """A file that was read: its name, length in bytes and sha256."""

    name: str
    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> SourceFile:
        """Hash a file."""
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return cls(path.name, path.stat().st_size, digest)


@dataclass(frozen=True)
class RawTables:
    """Interactions and items as a source holds them.

    Attributes:
        name: suggested name of the dataset.
        format: name of the reader.
        interactions: `user_id` and `item_id` (String), `timestamp` (Int64, microseconds; a multiple of 1,000,000 per step when the
            source has only an order) and, when `own_split`, `part` (Enum train, valid, test).
        items: `item_id`, `title` (null where unknown) and further attributes, all String, one row an item.
        problems: rows that could not be used.
        rows: rows read, bad ones included.
        sources: the files read.
        columns: which column of the source was taken for what.
        own_split: the source brings its split in `part`.
        notes: what a user should know about how the source was read.
    """

    name: str
    format: str
    interactions: pl.DataFrame
    items: pl.DataFrame
    problems: tuple[BadRow, ...]
    rows: int
    sources: tuple[SourceFile, ...]
    columns: dict[str, str] = field(default_factory=dict)
    own_split: bool = False
    notes: tuple[str, ...] = ()


def event_table(users: Iterable[str], items: Iterable[str], times: Iterable[int], parts: Iterable[str] | None = None) -> pl.DataFrame:
    """Return a table of interactions from its columns, times in microseconds."""
    columns = {USER: pl.Series(users, dtype=pl.String), ITEM: pl.Series(items, dtype=pl.String), TIME: pl.Series(times, dtype=pl.Int64)}
    if parts is not None:
        columns[PART] = pl.Series(parts, dtype=PART_TYPE)
    return pl.DataFrame(columns)


def empty_items() -> pl.DataFrame:
    """Return a table of items without rows, for sources without item texts."""
    return pl.DataFrame(schema={ITEM: pl.String, TITLE: pl.String})


def tidy_items(items: pl.DataFrame) -> pl.DataFrame:
    """Return items with one row an id (the first), blank texts as null, white space collapsed, and a title column."""
    if TITLE not in items.columns:
        items = items.with_columns(pl.lit(None, pl.String).alias(TITLE))
    texts = [name for name in items.columns if name != ITEM]
    cleaned = pl.col(texts).cast(pl.String).str.replace_all(r"\s+", " ").str.strip_chars()
    items = items.with_columns(cleaned).with_columns(pl.when(pl.col(texts).str.len_bytes() > 0).then(pl.col(texts)))
    return items.unique(ITEM, keep="first", maintain_order=True).select(ITEM, TITLE, *[name for name in texts if name != TITLE])
