"""Recommendations for every user of a dataset: one table, and the file that another system reads."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import polars as pl

from laserrec.data.dataset import Dataset
from laserrec.data.files import write_parquet
from laserrec.errors import DataError, UnknownIdError
from laserrec.recommender import Laser
from laserrec.system.atomic import aside
from laserrec.system.progress import Progress

COLUMNS = {"user_id": pl.String, "rank": pl.Int32, "item_id": pl.String, "title": pl.String, "score": pl.Float32}
ENDINGS = (".parquet", ".csv", ".jsonl")
FORMULA = r"^[=+\-@\t\r]"
"""How a cell begins that spreadsheets run as a formula."""
USERS_AT_ONCE = 1024
"""Users whose recommendations are held as Python objects at a time."""


def recommend_users(
    laser: Laser,
    data: Dataset,
    k: int = 10,
    *,
    exclude_seen: bool = True,
    only: Collection[str] | None = None,
    without: Collection[str] | None = None,
    progress: Progress = lambda _: None,
    users: range | None = None,
) -> pl.DataFrame:
    """Recommend after the whole history of every user of a dataset.

    Args:
        laser: the model.
        data: whose users; its items must be the model's.
        k: how many items for each; fewer where fewer are left.
        exclude_seen: leave each user's own items out.
        only: ids to choose from, as in `Laser.recommend`.
        without: ids that are never recommended.
        progress: called with the number of users that are done.
        users: indices of those to recommend to; all when unset. For some, only their own items are checked.

    Returns:
        user_id, rank from 1, item_id, title and score, users in the dataset's order; one for whom no item is left has no row.

    Raises:
        UnknownIdError: somebody has an item that the model does not know, or `only` or `without` holds one.
        DataError: k is below 1.
    """
    if users is None:
        check_known(laser, data)
    parts, done = [pl.DataFrame(schema=COLUMNS)], 0
    for part, rows in histories_of(data, USERS_AT_ONCE, users):
        found = laser.recommend(rows, k, exclude_seen=exclude_seen, only=only, without=without)
        lists = [
            (data.user_ids[user], rank, item.item_id, item.title, item.score)
            for user, row in zip(part, found, strict=True)
            for rank, item in enumerate(row, start=1)
        ]
        parts.append(pl.DataFrame(lists, schema=COLUMNS, orient="row"))
        done += len(part)
        progress(done)
    return pl.concat(parts)


def check_known(laser: Laser, data: Dataset) -> None:
    """Refuse a dataset in which somebody has an item that the model does not know: now, and not after an hour.

    Raises:
        UnknownIdError: somebody has.
    """
    known, ids = set(laser.item_ids), data.item_ids
    for item in np.unique(data.histories().values).tolist():
        if ids[item] not in known:
            raise UnknownIdError("item", ids[item], laser.item_ids)


def histories_of(data: Dataset, at_once: int, users: range | None = None) -> Iterator[tuple[range, list[list[str]]]]:
    """Yield some of the users at a time, as indices, and the item ids of each one's whole history; all users when None are named."""
    histories, ids = data.histories(), data.item_ids
    asked = range(len(histories)) if users is None else users
    for start in range(0, len(asked), at_once):
        part = asked[start : start + at_once]
        yield part, [[ids[item] for item in histories[user]] for user in part]


def check_place(path: Path) -> None:
    """Refuse a file that `write_table` could not write: now, and not after an hour.

    Raises:
        DataError: its ending names no format, it is a folder, or nothing can be written beside it.
    """
    if path.suffix not in ENDINGS:
        raise DataError(f"Received {str(path)!r}; the ending of its name must tell the format: {', '.join(ENDINGS)}.")
    if path.is_dir():
        raise DataError(f"{path} is a folder; give the name of a file.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise DataError(f"Cannot write {path}: {error}") from error


def write_table(table: pl.DataFrame, path: Path) -> None:
    """Write a table as the file's ending says; a file that is there is replaced when the new one is complete.

    In CSV a title that a spreadsheet would run as a formula gets an apostrophe before it. Ids stay as they are, because other systems look
    them up; `formula_like_ids` counts those.

    Raises:
        DataError: the ending names no format, or the disk refuses.
    """
    check_place(path)
    try:
        with aside(path) as partial:
            if path.suffix == ".parquet":
                write_parquet(table, partial)
            elif path.suffix == ".csv":
                _harmless(table).write_csv(partial)
            else:
                table.write_ndjson(partial)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"Cannot write {path}: {error}") from error


def formula_like_ids(table: pl.DataFrame) -> int:
    """Return how many different ids of users and items a spreadsheet would take for a formula."""
    columns = [name for name in ("user_id", "item_id") if name in table.columns]
    return sum(int(table[name].unique().str.contains(FORMULA).sum()) for name in columns)


def _harmless(table: pl.DataFrame) -> pl.DataFrame:
    """Put an apostrophe before titles that a spreadsheet would take for a formula."""
    if "title" not in table.columns:
        return table
    title = pl.col("title")
    return table.with_columns(title=pl.when(title.str.contains(FORMULA)).then(pl.lit("'") + title).otherwise(title))
