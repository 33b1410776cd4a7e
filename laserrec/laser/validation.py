"""What callers ask of a recommender, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from laserrec.config import LARGEST_LIFT
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


def check_states(states: NDArray[np.float32], histories: int, width: int) -> NDArray[np.float32]:
    """Return states of histories; refuse those of other histories or of another model.

    Raises:
        DataError: which shape was received, and which is expected.
    """
    if not isinstance(states, np.ndarray) or states.shape != (histories, width) or states.dtype != np.float32:
        got = f"{states.dtype} {list(states.shape)}" if isinstance(states, np.ndarray) else repr(states)
        raise DataError(f"Received the states {got}; expected is what encode_histories returned, float32 {[histories, width]}.")
    return states


def check_lift(deviations: float) -> float:
    """Return a cold-start bonus, in standard deviations; refuse what is no number, or far beyond all scores.

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


def check_items(items: Sequence[Mapping[str, str]], undone: str) -> dict[str, dict[str, str]]:
    """Return the attributes of items that are to be added or changed, without those that are empty, by id.

    Args:
        items: for each its `item_id` and attributes.
        undone: says, as a sentence, that nothing has happened.

    Raises:
        DataError: an item has no id, no text, or what is not text, or two have one id.
    """
    found: dict[str, dict[str, str]] = {}
    for place, item in enumerate(items, start=1):
        if not isinstance(item, Mapping):
            raise DataError(f"Item {place} is {item!r}; expected is an object with an item_id and a title. {undone}")
        given = {key: value for key, value in item.items() if value is not None and value != ""}
        wrong = {key: value for key, value in given.items() if not (_is_text(key) and _is_text(value))}
        if wrong:
            raise DataError(f"Item {place} has attributes that are not text: {wrong!r}; write them as strings. {undone}")
        item_id = given.pop("item_id", None)
        if item_id is None:
            raise DataError(f"Item {place} has no item_id; give it one. {undone}")
        if not given:
            raise DataError(f"Item {item_id!r} has no text; give at least its title. {undone}")
        if item_id in found:
            raise DataError(f"Item {place} has the id {item_id!r}, as one before it has; give each item once. {undone}")
        found[item_id] = given
    return found


def _is_text(value: object) -> bool:
    """Tell strings that can be written down; halves of surrogate pairs, which JSON lets through, cannot."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)
