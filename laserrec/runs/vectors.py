"""Item and user vectors as tables, in the columns that map viewers and vector databases read.

The inner product of a user's and an item's vector orders the items as the language model's term of the score does. The other terms are not
in the vectors: neighbours, words in common, the collaborative score, the cold-start bonus and the penalty on seen items.

Dimensions: N items, H width of the language model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from laserrec.data.dataset import Dataset
from laserrec.data.files import write_parquet
from laserrec.errors import DataError
from laserrec.evaluation.ranking import HISTORIES
from laserrec.recommender import Laser
from laserrec.runs.batch import check_known, histories_of
from laserrec.system.atomic import aside
from laserrec.system.progress import Progress

OWN = ("id", "x", "y", "vector")
"""Columns of items beside title and attributes; an attribute of such a name becomes `item_…`."""


def item_frame(laser: Laser) -> pl.DataFrame:
    """Return every item with its vector and its place on the map.

    Args:
        laser: the model.

    Returns:
        id, title (the id where there is none), the other attributes, x and y as in `Laser.item_map`, and vector, float32 [H] at length 1;
        a row an item, in the order of `item_ids`.

    Raises:
        DataError: two attributes would get the same column.
    """
    catalogue, places = laser.catalogue, laser.item_map(len(laser.item_ids)).places
    names = dict.fromkeys(name for item in catalogue for name in item if name not in ("item_id", "title"))
    if lost := [name for name in names if name in OWN and f"item_{name}" in names]:
        raise DataError(f"The attributes {lost[0]!r} and 'item_{lost[0]}' would be one column. Rename one of them.")
    attributes = {f"item_{name}" if name in OWN else name: [item.get(name) for item in catalogue] for name in names}
    return pl.DataFrame(
        {
            "id": [item["item_id"] for item in catalogue],
            "title": [item.get("title", item["item_id"]) for item in catalogue],
            **attributes,
            "x": places[:, 0],
            "y": places[:, 1],
            "vector": laser.item_vectors(),
        },
        schema_overrides=dict.fromkeys(("id", "title", *attributes), pl.String),
    )


def user_frames(laser: Laser, data: Dataset, progress: Progress = lambda _: None) -> Iterator[pl.DataFrame]:
    """Yield the users of a dataset with their vectors, some at a time.

    Args:
        laser: the model.
        data: whose users; its items must be the model's.
        progress: called with the number of users that are done.

    Yields:
        id, title of the last item, items in the history, and vector, float32 [H] at length 1, after the whole history.

    Raises:
        UnknownIdError: somebody has an item that the model does not know.
    """
    check_known(laser, data)
    for users, rows in histories_of(data, HISTORIES):
        yield pl.DataFrame(
            {
                "id": [data.user_ids[user] for user in users],
                "title": [laser.title(row[-1]) for row in rows],
                "items": pl.Series([len(row) for row in rows], dtype=pl.Int32),
                "vector": laser.encode_histories(rows).vectors,
            }
        )
        progress(users.stop)


def export_vectors(laser: Laser, data: Dataset | None, folder: Path, progress: Progress = lambda _: None) -> list[Path]:
    """Write `items.parquet` and, of a dataset, `users.parquet`; each file appears when it is complete.

    Args:
        laser: the model.
        data: whose users; no file of users when None.
        folder: where the files go; those of these names are replaced.
        progress: called with the number of users that are done.

    Returns:
        The files.

    Raises:
        UnknownIdError: somebody has an item that the model does not know.
        DataError: the disk refuses, or two attributes would get the same column.
    """
    items, users = folder / "items.parquet", folder / "users.parquet"
    if data is not None:
        check_known(laser, data)  # before anything is replaced
    table = item_frame(laser)
    try:
        with aside(items) as partial:
            write_parquet(table, partial)
        if data is None:
            return [items]
        with aside(users) as partial:
            parts = partial.parent / "parts"
            parts.mkdir()
            for number, frame in enumerate(user_frames(laser, data, progress)):
                write_parquet(frame, parts / f"{number:09}.parquet")
            # Streamed: no more than some parts are in memory. The folder's name may look like a pattern.
            pl.scan_parquet(sorted(parts.iterdir()), glob=False).sink_parquet(partial)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"Cannot write {folder}: {error}. Make room on the disk, or choose another folder.") from error
    return [items, users]
