"""RecFormer's JSON: `train.json`, `val.json`, `test.json` (user number → item numbers) and `meta_data.json` (ASIN → attributes).

The two maps `umap.json` and `smap.json` give the numbers' real ids; without them the numbers stand for themselves.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from laserrec.data.events import Events
from laserrec.data.options import ReadOptions
from laserrec.data.raw import RawTables
from laserrec.data.reading.contents import readable
from laserrec.data.tables import EVENT_TYPES, ITEM, MICROSECONDS, TITLE, BadRow, SourceFile, empty_items, tidy_items
from laserrec.data.values import as_text
from laserrec.errors import DataError

_FILES = ("train.json", "val.json", "test.json")


def read_recformer(folder: Path, options: ReadOptions) -> RawTables:
    """Read a folder of RecFormer's files; a user's order is that of the lists.

    Args:
        folder: holds the files under their own names.
        options: only `encoding` may be given.

    Raises:
        DataError: a file is missing, is not JSON, or the files do not belong together; another option was given.
    """
    options.refuse_all_but(("encoding",), "RecFormer's files")
    found = {name: _read(folder / name, options.encoding) for name in _FILES}
    users = _inverse(folder / "umap.json", options.encoding)
    names = _inverse(folder / "smap.json", options.encoding)
    problems: list[BadRow] = []
    events: list[tuple[str, str, int, str]] = []
    reached: dict[str, int] = {}
    rows = 0
    for file, split in zip(_FILES, ("train", "valid", "test"), strict=True):
        for place, (user, items) in enumerate(found[file].items(), start=1):
            rows += 1
            if (users and user not in users) or not isinstance(items, list) or not all(_is_item(item, names) for item in items):
                problems.append(BadRow(file, place, f"user {user[:40]!r} is not a known user with a list of known item numbers"))
                continue
            for item in items:
                step = reached[user] = reached.get(user, -1) + 1
                events.append((users.get(user, user), names.get(str(item), str(item)), step * MICROSECONDS, split))
    items, notes = _items(folder / "meta_data.json", options.encoding)
    extra = [file for file in ("meta_data.json", "umap.json", "smap.json") if (folder / file).is_file()]
    return RawTables(
        name=folder.name or "recformer",
        format="recformer",
        events=Events.of(pl.DataFrame(events, schema=EVENT_TYPES, orient="row")),
        items=items,
        problems=tuple(problems),
        rows=rows,
        sources=tuple(SourceFile.of(folder / file) for file in (*_FILES, *extra)),
        columns={"user": "key of the lists", "item": "number in a list", "time": "order of the lists"},
        own_split=True,
        notes=(*(("bad rows are counted by user; their number is the place in the file",) if problems else ()), *notes),
    )


def _is_item(value: object, names: dict[str, str]) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool) and (not names or str(value) in names) and bool(str(value).strip())


def _inverse(file: Path, encoding: str) -> dict[str, str]:
    """Return number → id of a map id → number; nothing when the file is absent."""
    if not file.is_file():
        return {}
    forward = _read(file, encoding)
    inverse = {str(number): name for name, number in forward.items()}
    if len(inverse) < len(forward) or not all(inverse.values()):
        raise DataError(f"{file.name} gives one number to two ids, or has an empty id.")
    return inverse


def _items(file: Path, encoding: str) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return the items, and a note about entries that are none."""
    if not file.is_file():
        return empty_items(), ("no meta_data.json: items have no text",)
    entries = _read(file, encoding)
    rows = [
        {**{as_text(key) or "": as_text(value) for key, value in entry.items()}, ITEM: name}
        for name, entry in entries.items()
        if isinstance(entry, dict)
    ]
    keys = dict.fromkeys([ITEM, TITLE, *(key for row in rows for key in row)])
    left = len(entries) - len(rows)
    notes = (f"{file.name}: {left:,} entries that are no objects were left out",) if left else ()
    return tidy_items(pl.DataFrame(rows, schema=dict.fromkeys(keys, pl.String))), notes


def _read(file: Path, encoding: str) -> dict[str, Any]:
    if not file.is_file():
        raise DataError(f"{file} is missing; RecFormer's data are {', '.join(_FILES)}, meta_data.json, umap.json and smap.json.")
    with readable(file):
        content = file.read_bytes()
    try:
        value = json.loads(content.decode(encoding).encode("utf-8", "replace"))
    except (ValueError, LookupError, RecursionError) as error:
        raise DataError(f"{file.name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{file.name} must hold one JSON object; received {type(value).__name__}.")
    return {as_text(key) or "": entry for key, entry in value.items()}
