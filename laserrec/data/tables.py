"""Names of columns, records of bad rows and of files, tables of items: the words that every reader speaks.

Knows nothing of file formats.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from laserrec.data.values import NULL_MARKS, texts

USER = "user_id"
ITEM = "item_id"
TIME = "timestamp"
SPLIT = "split"
TITLE = "title"
SPLITS = ("train", "valid", "test")
HISTORY = "history"
"""The split of events that cases are read with and nothing is trained on: of users, or of a time, that a dataset leaves out of training."""
SPLIT_TYPE = pl.Enum((*SPLITS, HISTORY))
EVENT_TYPES: dict[str, pl.DataType] = {USER: pl.String(), ITEM: pl.String(), TIME: pl.Int64(), SPLIT: SPLIT_TYPE}
"""Columns of interactions with their types."""
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


def empty_items() -> pl.DataFrame:
    """Return a table of items without rows, for sources without item texts."""
    return pl.DataFrame(schema={ITEM: pl.String, TITLE: pl.String})


def tidy_items(items: pl.DataFrame, marks: Collection[str] = NULL_MARKS) -> pl.DataFrame:
    """Return items with texts as `laserrec.data.values.texts` reads them, one row an id, and a title column.

    Args:
        items: `item_id` and attributes of any type.
        marks: texts that stand for a missing value.
    """
    return one_row_each(items.select(ITEM, *(texts(items[name], marks) for name in items.columns if name != ITEM)))


def one_row_each(items: pl.DataFrame) -> pl.DataFrame:
    """Return items whose texts are read already with one row an id, the first, and a title column in front."""
    if TITLE not in items.columns:
        items = items.with_columns(pl.lit(None, pl.String).alias(TITLE))
    names = [name for name in items.columns if name not in (ITEM, TITLE)]
    return items.unique(ITEM, keep="first", maintain_order=True).select(ITEM, TITLE, *names)


def repeated(file: str, rows: int, items: pl.DataFrame) -> tuple[str, ...]:
    """Return a note about the rows of a table of items that have the id of an earlier one, if there are any."""
    again = rows - items.height
    return (f"{file}: {again:,} rows whose item id occurred before were left out; the first of each stays",) if again else ()
