"""What callers ask of a recommender, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from numbers import Integral, Real
from typing import Any

import polars as pl

from laserrec.config import LARGEST_LIFT, LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.data.values import ids, item_attributes, why_no_id
from laserrec.errors import ConfigError, DataError, shown

EXPECTED = "expected is a list of histories, each a list of strings in time order: [['...', '...']]."


def check_fit(data: object, config: object) -> None:
    """Refuse to train on what is no dataset, or with settings that nobody has checked.

    Raises:
        DataError: a path or a table was given instead of a dataset.
        ConfigError: a mapping, say, was given instead of settings.
    """
    if not isinstance(data, Dataset):
        raise DataError(f"Received {shown(data)} to train on; expected is a Dataset: Dataset.load(folder), or prepare(source)[0].")
    if config is not None and not isinstance(config, LaserConfig):
        raise ConfigError(
            f"Received the settings {shown(config)}; expected is a LaserConfig: LaserConfig.build('default', {{…}}, 'Python')."
        )


def check_request(histories: Iterable[Iterable[str]], k: int) -> list[list[str]]:
    """Return histories of ids or texts as lists; refuse what is not text, empty histories, and k below 1.

    Args:
        histories: any iterable, a generator too, of histories that are iterables in time order.
        k: how many items are asked for.

    Raises:
        DataError: what was received, and what is expected.
    """
    if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
        raise DataError(f"Received k = {shown(k)}; allowed is a whole number from 1, the number of items asked for.")
    given = [_ordered(history) for history in _ordered(histories)]
    for history in given:
        if not history:
            raise DataError("Received an empty history; a recommendation needs at least one item or text.")
        if not all(map(_is_text, history)):
            raise DataError(f"Received the history {shown(history)}; {EXPECTED}")
    return given


def check_ids(name: str, ids: Collection[str]) -> list[str]:
    """Return a collection of ids as a list; refuse a bare string, and what is not text.

    Raises:
        DataError: what was received under which name, and what is expected.
    """
    given = list(ids) if isinstance(ids, Iterable) and not isinstance(ids, str | bytes) else None
    if given is None or not all(map(_is_text, given)):
        raise DataError(f"Received {name} = {shown(ids)}; expected is a collection of item ids, each a string: ['...', '...'].")
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


def check_items(items: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return new items as a list; `check_item` then judges each.

    Raises:
        DataError: they cannot be listed.
    """
    if not isinstance(items, Iterable) or isinstance(items, str | bytes | Mapping):
        raise DataError(f"Received the new items {shown(items)}; expected is a list of objects, each with an item_id and a title.")
    return list(items)


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
        raise DataError(f"New item {place} is {shown(item)}; expected is an object with an item_id and a title. No item was added.")
    wrong = {key: value for key, value in item.items() if not (_is_text(key) and (_is_text(value) or not isinstance(value, str)))}
    if wrong:
        raise DataError(f"New item {place} has attributes that are not text: {shown(wrong)}; write them as strings. No item was added.")
    columns = ["title", *(name for name in columns if name != "title")]
    named = {key: "item_id" if key.strip().casefold() == "item_id" else key for key in item}
    given_id = next((item[key] for key, name in named.items() if name == "item_id"), None)
    if why_no_id(given_id) is not None:
        raise DataError(f"New item {place} has no item_id: received {shown(given_id)}; give it one that is not in use. No item was added.")
    item_id = str(ids(pl.Series([given_id], dtype=pl.Object))[0])
    try:
        attributes = item_attributes({key: value for key, value in item.items() if named[key] != "item_id"}, columns)
    except DataError as error:
        raise DataError(f"New item {place}: {error} No item was added.") from error
    if not attributes.keys() & set(columns):
        raise DataError(f"New item {shown(item_id)} has no text; give at least its title. No item was added.")
    return item_id, attributes


def check_text(text: str) -> dict[str, str]:
    """Return a text as an item that has it as its title; refuse a blank one.

    Raises:
        DataError: what was received.
    """
    attributes = item_attributes({"title": text}, ["title"])
    if not attributes:
        raise DataError(f"Received the text {shown(text)}, which says nothing; expected is a text such as a title.")
    return attributes


def _ordered(values: object) -> list[Any]:
    """Return the members of an iterable that has an order and is no text.

    Raises:
        DataError: it is none.
    """
    # A string is a sequence of strings too, its letters, so one pair of brackets too few would pass.
    if not isinstance(values, Iterable) or isinstance(values, str | bytes | Mapping | Set):
        raise DataError(f"Received {shown(values)}; {EXPECTED}")
    return list(values)


def _is_text(value: object) -> bool:
    """Tell strings that can be written down; halves of surrogate pairs, which JSON lets through, cannot."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)
