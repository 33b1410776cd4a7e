"""Amazon reviews with metadata, of 2014, 2018 and 2023: one JSON object a line, gzip or not; also the ratings-only CSV files.

| | reviews | user | item | time | metadata |
|---|---|---|---|---|---|
| 2014 | `reviews_NAME*.json` | reviewerID | asin | unixReviewTime | `meta_NAME.json`, whose lines are Python literals |
| 2018 | `NAME*.json` | reviewerID | asin | unixReviewTime | `meta_NAME.json` |
| 2023 | `NAME.jsonl` | user_id | parent_asin | timestamp (milliseconds) | `meta_NAME.jsonl` |
"""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import warnings
from pathlib import Path
from typing import Any

import polars as pl

from laserrec.data.columns import LogColumns, listed
from laserrec.data.logs import read_log
from laserrec.data.options import ReadOptions
from laserrec.data.raw import Items, RawTables
from laserrec.data.reading.contents import TextFile
from laserrec.data.reading.files import file_kind
from laserrec.data.reading.table import Table
from laserrec.data.tables import ITEM, TITLE, BadRow, SourceFile, empty_items, repeated, tidy_items
from laserrec.data.values import as_text, ids, why_no_id
from laserrec.errors import DataError

_SHAPES = (("user_id", "parent_asin", "timestamp"), ("reviewerID", "asin", "unixReviewTime"), ("user_id", "asin", "timestamp"))
_COLUMNS = (ITEM, TITLE, "brand", "category")
_NO_METADATA = ("no metadata: items have no text (name its file as items)",)
_TAG = re.compile(r"<[^<>]{1,200}>")


def read_amazon(source: Path, options: ReadOptions) -> RawTables:
    """Read reviews as interactions, and metadata as items with title, brand and category.

    Args:
        source: the file of reviews, or a folder with it and `meta_*`.
        options: only `items`, which names the metadata, and `encoding` may be given.

    Raises:
        DataError: files are missing, several, or cannot be read; another option was given.
    """
    options.refuse_all_but(("items", "encoding", "keep", "min_rating", "null_marks"), "Amazon's reviews")
    reviews, metadata = _files(source, options)
    table = Table.open(reviews, options)
    user, item, time = _shape(table)
    options = dataclasses.replace(options, user=user, item=item, time=time)
    log = read_log(table, LogColumns.of(table.name, table.columns, options), options)
    items = _metadata(metadata, options) if metadata else Items(empty_items(), notes=_NO_METADATA)
    name = reviews.name.split(".")[0].removeprefix("reviews_").lower()
    return RawTables.of(name, "amazon", log, items, (SourceFile.of(file) for file in (reviews, metadata) if file))


def _files(source: Path, options: ReadOptions) -> tuple[Path, Path | None]:
    if source.is_file():
        return source, options.items
    files = [file for file in sorted(source.iterdir()) if file.is_file() and file_kind(file) in ("jsonl", "csv")]
    reviews = [file for file in files if not file.name.startswith("meta_")]
    metadata = [options.items] if options.items else [file for file in files if file.name.startswith("meta_")]
    if len(reviews) != 1 or len(metadata) > 1:
        raise DataError(
            f"{source} must hold one file of reviews and at most one meta_ file; found {', '.join(f.name for f in files) or 'nothing'}. "
            "Give the file of reviews itself, and that of its metadata as items.",
            parameters=["items"],
        )
    return reviews[0], metadata[0] if metadata else None


def _shape(reviews: Table) -> tuple[str, str, str]:
    for shape in _SHAPES:
        if set(shape) <= set(reviews.columns):
            return shape
    expected = " or ".join("/".join(shape) for shape in _SHAPES)
    raise DataError(f"{reviews.name} holds none of Amazon's reviews; it has {listed(reviews.columns)}, expected {expected}.")


def _metadata(file: Path, options: ReadOptions) -> Items:
    found: list[tuple[str | None, ...]] = []
    problems: list[BadRow] = []
    read = 0
    for line, text in TextFile(file, options.encoding).lines():
        if not text.strip():
            continue
        read += 1
        try:
            entry = _literal(text)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
            problems.append(BadRow(file.name, line, f"neither JSON nor a Python literal: {str(error)[:80]}"))
            continue
        if not isinstance(entry, dict):
            problems.append(BadRow(file.name, line, "not an object"))
            continue
        given = entry.get("parent_asin") or entry.get("asin")
        why = why_no_id(given, options.null_marks)
        if why is not None:
            problems.append(BadRow(file.name, line, "no asin" if why == "missing" else f"the asin is {why}"))
            continue
        details = entry.get("details")
        brand = entry.get("brand") or (details.get("Brand") if isinstance(details, dict) else None) or entry.get("store")
        found.append((as_text(given), _title(entry.get("title")), _clean(brand), _clean(_category(entry))))
    frame = pl.DataFrame(found, schema=dict.fromkeys(_COLUMNS, pl.String), orient="row")
    items = tidy_items(frame.with_columns(ids(frame[ITEM], options.null_marks)), options.null_marks)
    return Items(items, problems, read, notes=repeated(file.name, len(found), items))


def _literal(text: str) -> Any:  # noqa: ANN401 - whatever the line holds
    """Parse JSON or, for the release of 2014, a Python literal; ast.literal_eval runs no code."""
    try:
        return json.loads(text)
    except ValueError:
        with warnings.catch_warnings():  # an escape such as "\d" is a warning of Python's own
            warnings.simplefilter("ignore")
            return ast.literal_eval(text.strip())


def _category(entry: dict[str, Any]) -> str | None:
    """Return the category of 2018 (a list), 2023 (a list, or the main category) or 2014 (a list of lists, the first of them)."""
    value = entry.get("category") or entry.get("categories") or entry.get("main_category") or entry.get("main_cat")
    if isinstance(value, list) and value and isinstance(value[0], list):
        value = value[0]
    return as_text(value)


def _title(value: object) -> str | None:
    """Return a cleaned title; the release of 2018 holds scraps of JavaScript instead of some."""
    title = _clean(value)
    return None if title is None or "getTime" in title else title


def _clean(value: object) -> str | None:
    text = as_text(value)
    return _TAG.sub(" ", text) if text else None  # HTML references are read where every text is cleaned
