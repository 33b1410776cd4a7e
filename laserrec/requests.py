"""What callers hand over, histories and new items, before anything is done with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from laserrec.errors import DataError


def check_request(histories: Sequence[Sequence[str]], k: int) -> None:
    """Refuse histories, of ids or of texts, that cannot be answered with k items.

    Raises:
        DataError: one is empty or is not a list of strings, or k is below 1.
    """
    if k < 1:
        raise DataError(f"Received k = {k}; at least one item must be asked for.")
    # A string is a sequence of strings too, its letters, so one pair of brackets too few would pass.
    for history in [histories] if isinstance(histories, str) else histories:
        if isinstance(history, str) or not all(map(_is_text, history)):
            raise DataError(f"Received the history {history!r}; expected is a list of histories, each a list of strings: [['...', '...']].")
        if not len(history):
            raise DataError("Received an empty history; a recommendation needs at least one item or text.")


def check_item(item: Mapping[str, str], place: int) -> tuple[str, dict[str, str]]:
    """Return a new item's id and its attributes, without those that are empty.

    Args:
        item: what the caller gave.
        place: its number among the new items, from 1.

    Raises:
        DataError: it has no id, no text, or attributes that are not text.
    """
    if not isinstance(item, Mapping):
        raise DataError(f"New item {place} is {item!r}; expected is an object with an item_id and a title. No item was added.")
    given = {key: value for key, value in item.items() if value is not None and value != ""}
    wrong = {key: value for key, value in given.items() if not (_is_text(key) and _is_text(value))}
    if wrong:
        raise DataError(f"New item {place} has attributes that are not text: {wrong!r}; write them as strings. No item was added.")
    item_id = given.pop("item_id", None)
    if item_id is None:
        raise DataError(f"New item {place} has no item_id; give it one that is not in use. No item was added.")
    if not given:
        raise DataError(f"New item {item_id!r} has no text; give at least its title. No item was added.")
    return item_id, given


def _is_text(value: object) -> bool:
    """Tell strings that can be written down; halves of surrogate pairs, which JSON lets through, cannot."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)
