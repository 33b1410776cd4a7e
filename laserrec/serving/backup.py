"""A store as one file of JSON lines, `{"event": {…}}`, `{"item": {…}}` or `{"recommendation": {…}}`, and back into an empty one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from laserrec.errors import DataError
from laserrec.serving.store import Event, Item, ItemChange, Shown, Store, in_parts
from laserrec.system.atomic import aside

KINDS: dict[str, type[Any]] = {"event": Event, "item": Item, "recommendation": Shown}
AT_ONCE = 1000
LONGEST_LINE = 16 * 2**20
"""Characters; a line of ours is far shorter."""


def export(store: Store, path: Path) -> dict[str, int]:
    """Write everything but the keys into a file, which appears when it is complete; returns how much of what."""
    counts = {"events": 0, "items": 0, "recommendations": 0}
    try:
        with aside(path) as partial, partial.open("w", encoding="utf-8") as file:
            for kind, rows in (("event", store.all_events()), ("item", _items(store)), ("recommendation", store.all_recommendations())):
                for row in rows:
                    file.write(json.dumps({kind: vars(row)}, ensure_ascii=False) + "\n")
                    counts[f"{kind}s"] += 1
    except OSError as error:
        raise DataError(f"Cannot write {path}: {error}") from error
    return counts


def import_file(store: Store, path: Path) -> dict[str, int]:
    """Read what `export` wrote into a store without events and items; the whole file is checked first.

    Raises:
        DataError: the file cannot be read, a line is not as `export` writes them, or the store holds something.
    """
    if next(store.all_events(), None) is not None or store.items_since(0, 1):
        message = "The store holds events or items already; a backup is read into an empty one. Name a new one."
        raise DataError(message, parameters=["store"])
    counts = {"events": 0, "items": 0, "recommendations": 0}
    for row in _read(path):
        counts["events" if isinstance(row, Event) else "items" if isinstance(row, Item) else "recommendations"] += 1
    for part in in_parts((row for row in _read(path) if isinstance(row, Event)), AT_ONCE):
        store.add_events(part)
    for items in in_parts((row for row in _read(path) if isinstance(row, Item)), AT_ONCE):
        changes = [
            ItemChange(item.item_id, deleted=True)
            if item.deleted
            else ItemChange(item.item_id, item.attributes, replace=True, hidden=item.hidden, available_until=item.available_until)
            for item in items
        ]
        store.change_items(changes)
    for shown in in_parts((row for row in _read(path) if isinstance(row, Shown)), AT_ONCE):
        store.add_recommendations(shown)
    return counts


def import_events(store: Store, events: Iterable[Event]) -> dict[str, int]:
    """Add events, each with an event id, in order; returns how many are new. The same call again adds none."""
    return {"events": sum(sum(store.add_events(part)) for part in in_parts(events, AT_ONCE))}


def _items(store: Store) -> Iterator[Item]:
    change = 0
    while items := store.items_since(change, AT_ONCE):
        yield from items
        change = items[-1].change


def _read(path: Path) -> Iterator[Event | Item | Shown]:
    """Yield a file's rows, checked."""
    try:
        with path.open(encoding="utf-8") as file:
            number = 0
            while line := file.readline(LONGEST_LINE):
                number += 1
                yield _row(line, f"{path}, line {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read {path}: {error}") from error


def _row(line: str, where: str) -> Event | Item | Shown:
    try:
        ((kind, values),) = json.loads(line).items()
        known = {field.name for field in fields(KINDS[kind])}
        if values.keys() - known:
            raise ValueError(f"unknown fields {sorted(values.keys() - known)}")
        row: Event | Item | Shown = TypeAdapter(KINDS[kind]).validate_json(json.dumps(values), strict=True)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, ValidationError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{where} is not as `laserrec store export` writes it ({reason}); nothing was read.") from error
    return row
