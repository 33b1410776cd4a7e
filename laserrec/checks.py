"""What callers ask of a recommender, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from numbers import Real

import polars as pl

from laserrec.config import LARGEST_LIFT
from laserrec.data.values import ids, item_attributes, why_no_id
from laserrec.errors import ConfigError, DataError


def check_request(histories: Sequence[Sequence[str]], k: int) -> None:
    """Refuse histories of ids or texts that are not lists of strings, empty ones, and k below 1.

    Raises:
        DataError: what was received, and what is expected.
    """
    if k < 1:
        raise DataError(f"Received k = {k}; at least one item must be asked for.")
    # A string is a sequence of strings too, its letters, so one pair of brackets too few would pass.
    for history in [histories] if isinstance(histories, str) else histories:
        if isinstance(history, str) or not all(map(_is_text, history)):
            raise DataError(f"Received the history {history!r}; expected is a list of histories, each a list of strings: [['...', '...']].")
        if not len(history):
            raise DataError("Received an empty history; a recommendation needs at least one item or text.")


def check_ids(name: str, ids: Collection[str]) -> list[str]:
    """Return a collection of ids as a list; refuse a bare string, and what is not text.

    Raises:
        DataError: what was received under which name, and what is expected.
    """
    given = list(ids)
    if isinstance(ids, str) or not all(map(_is_text, given)):
        raise DataError(f"Received {name} = {ids!r}; expected is a collection of item ids, each a string: ['...', '...'].")
    return given


def check_lift(deviations: float) -> float:
    """Return what new items get beyond the score of their stand-ins; refuse what is no number, or far beyond all scores.

    Raises:
        ConfigError: what was received.
    """
    number = isinstance(deviations, Real) and not isinstance(deviations, bool)
    if not (number and -LARGEST_LIFT <= deviations <= LARGEST_LIFT):
        raise ConfigError(
            f"Received new_items = {deviations!r}; allowed is a number of deviations between {-LARGEST_LIFT:g} and {LARGEST_LIFT:g}, "
            "such as 0 or 1.5."
        )
    return float(deviations)


def check_item(item: Mapping[str, object], place: int, columns: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Return a new item's id and its attributes as a prepared catalogue would hold them.

    Args:
        item: its `item_id` and attributes: text, numbers, lists of them; None where unknown.
        place: its number among the new items, from 1, for the message.
        columns: the catalogue's attributes, in its order.

    Raises:
        DataError: it has no id, no text, or what cannot be written as text.
    """
    if not isinstance(item, Mapping):
        raise DataError(f"New item {place} is {item!r}; expected is an object with an item_id and a title. No item was added.")
    wrong = {key: value for key, value in item.items() if not (_is_text(key) and (_is_text(value) or not isinstance(value, str)))}
    if wrong:
        raise DataError(f"New item {place} has attributes that are not text: {wrong!r}; write them as strings. No item was added.")
    columns = ["title", *(name for name in columns if name != "title")]
    named = {key: "item_id" if key.strip().casefold() == "item_id" else key for key in item}
    given_id = next((item[key] for key, name in named.items() if name == "item_id"), None)
    if why_no_id(given_id) is not None:
        raise DataError(f"New item {place} has no item_id: received {given_id!r}; give it one that is not in use. No item was added.")
    item_id = str(ids(pl.Series([given_id], dtype=pl.Object))[0])
    try:
        attributes = item_attributes({key: value for key, value in item.items() if named[key] != "item_id"}, columns)
    except DataError as error:
        raise DataError(f"New item {place}: {error} No item was added.") from error
    if not attributes.keys() & set(columns):
        raise DataError(f"New item {item_id!r} has no text; give at least its title. No item was added.")
    return item_id, attributes


def check_text(text: str) -> dict[str, str]:
    """Return a text as an item that has it as its title; refuse a blank one.

    Raises:
        DataError: what was received.
    """
    attributes = item_attributes({"title": text}, ["title"])
    if not attributes:
        raise DataError(f"Received the text {text!r}, which says nothing; expected is a text such as a title.")
    return attributes


def _is_text(value: object) -> bool:
    """Tell strings that can be written down; halves of surrogate pairs, which JSON lets through, cannot."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)
