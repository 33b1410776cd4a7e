"""Names of columns, records of bad rows and of files, tables of items: the words that every reader speaks.

Knows nothing of file formats.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from html import unescape
from html.entities import html5
from pathlib import Path

import polars as pl

USER = "user_id"
ITEM = "item_id"
TIME = "timestamp"
PART = "part"
TITLE = "title"
REFERENCE = r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});"
"""A character reference of HTML, such as shops' exports are full of; only with its semicolon, for "AT&T" is none."""
PARTS = ("train", "valid", "test")
HISTORY = "history"
"""The part of events that cases are read with and nothing is trained on: of users, or of a time, that a dataset leaves out of training."""
PART_TYPE = pl.Enum((*PARTS, HISTORY))
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
    """Return items with one row an id (the first), HTML's references as characters, blank texts as null, and a title column.

    White space is collapsed.
    """
    if TITLE not in items.columns:
        items = items.with_columns(pl.lit(None, pl.String).alias(TITLE))
    texts = [name for name in items.columns if name != ITEM]
    items = items.with_columns(pl.col(texts).cast(pl.String))
    found = {reference for name in texts for reference in items[name].str.extract_all(REFERENCE).explode().drop_nulls().unique()}
    characters = {reference: _character(reference) for reference in sorted(found)}
    if characters:
        items = items.with_columns(pl.col(texts).str.replace_many(characters))
    cleaned = pl.col(texts).str.replace_all(r"\s+", " ").str.strip_chars()
    items = items.with_columns(cleaned).with_columns(pl.when(pl.col(texts).str.len_bytes() > 0).then(pl.col(texts)))
    return items.unique(ITEM, keep="first", maintain_order=True).select(ITEM, TITLE, *[name for name in texts if name != TITLE])


def _character(reference: str) -> str:
    """Return what a reference stands for, itself where it has no meaning; the standard library alone would read the beginning of others."""
    return unescape(reference) if reference.startswith("&#") or reference[1:] in html5 else reference
