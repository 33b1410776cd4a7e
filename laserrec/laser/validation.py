"""What callers ask of a recommender, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Sequence, Set
from numbers import Integral, Real
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from laserrec.config import LARGEST_BONUS, LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.data.reading.memory import ArrowTable
from laserrec.data.values import ids, named_attributes, read_attributes, why_no_id
from laserrec.errors import ConfigError, DataError, shown
from laserrec.laser.catalogue import Catalogue

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


def check_evaluated(data: Dataset, trained: Mapping[str, Any], catalogue: Catalogue) -> None:
    """Refuse to evaluate a model on anything but the dataset and the items that it was trained on, which `trained` is the provenance of.

    Raises:
        DataError: the dataset is another one, or the catalogue has changed.
    """
    if data.fingerprint != trained.get("fingerprint"):
        raise DataError(
            f"{data.name!r} has fingerprint {data.fingerprint[:12]}…; this model was trained on {trained.get('dataset')!r}, "
            f"{str(trained.get('fingerprint'))[:12]}…, whose training events may be another split's test events. "
            "Evaluate it on its own dataset."
        )
    if tuple(data.item_ids) != catalogue.ids or bool(catalogue.removed.any()):
        raise DataError("The catalogue has changed since training; evaluate the model as it was saved before.")


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


def check_choice(mask: NDArray[np.bool_], count: int) -> Tensor:
    """Return a mask over a catalogue as a tensor, bool [count]; refuse one of other numbers or of another length.

    Raises:
        DataError: what was received, and what is expected.
    """
    if mask.dtype != np.bool_ or mask.shape != (count,):
        raise DataError(f"Received only = {mask.dtype} {list(mask.shape)}; expected is bool [{count}], an entry for each of item_ids.")
    return torch.from_numpy(np.ascontiguousarray(mask))


EXPLAINED_AT_MOST = 10_000
"""Pairs of a history's item and an explained one in one call: ten items after a history of 1,000, or after twenty histories of 50."""


def check_explained(
    histories: Sequence[Sequence[str]], item_ids: Sequence[Collection[str]] | None, k: int, *, narrowed: bool
) -> list[list[str]] | None:
    """Return which items to explain after each history, None for the k best; refuse more than one call may ask for.

    Args:
        histories: of item ids.
        item_ids: a collection of ids for each history, or None.
        k: how many items are explained after each history where `item_ids` is None.
        narrowed: the request says which items may be recommended.

    Raises:
        DataError: what was received, and what is allowed.
    """
    asked = None
    if item_ids is not None:
        if narrowed:
            raise DataError("Received item_ids beside only or without, which choose what is recommended; leave either out.")
        asked = [check_ids(f"item_ids[{row}]", ids) for row, ids in enumerate(item_ids)]
        if len(asked) != len(histories):
            raise DataError(f"Received {len(histories)} histories and item_ids for {len(asked)}; give one collection of ids a history.")
    counts = [k] * len(histories) if asked is None else map(len, asked)
    pairs = sum(len(set(history)) * max(1, count) for history, count in zip(histories, counts, strict=True))
    if pairs > EXPLAINED_AT_MOST:
        raise DataError(
            f"Received {pairs:,} pairs of an item in a history and an item to explain, of {len(histories):,} histories; allowed are "
            f"{EXPLAINED_AT_MOST:,} a call. Explain fewer items, shorten the histories, or make several calls."
        )
    return asked


def check_states(states: NDArray[np.float32], histories: int, item_states: Tensor) -> Tensor:
    """Return states of histories where those of the items, [N, H], lie; refuse those of other histories or of another model.

    Raises:
        DataError: which shape was received, and which is expected.
    """
    shape = (histories, item_states.shape[1])
    if not isinstance(states, np.ndarray) or states.shape != shape or states.dtype != np.float32:
        got = f"{states.dtype} {list(states.shape)}" if isinstance(states, np.ndarray) else shown(states)
        raise DataError(f"Received the states {got}; expected is what encode_histories returned, float32 {list(shape)}.")
    return torch.from_numpy(states).to(item_states.device)


def check_bonus(deviations: float) -> float:
    """Return a cold-start bonus, in standard deviations; refuse what is no number, or far beyond all scores.

    Raises:
        ConfigError: what was received.
    """
    number = isinstance(deviations, Real) and not isinstance(deviations, bool)
    if not (number and -LARGEST_BONUS <= deviations <= LARGEST_BONUS):
        raise ConfigError(
            f"Received cold_start_bonus = {deviations!r}; allowed is a number of standard deviations between {-LARGEST_BONUS:g} and "
            f"{LARGEST_BONUS:g}, such as 0 or 1.5."
        )
    return float(deviations)


def check_items(
    items: Iterable[Mapping[str, Any]] | ArrowTable, columns: Sequence[str] | None, undone: str, used: Container[str] = ()
) -> dict[str, dict[str, str]]:
    """Return the attributes of items that are to be added or changed, by id, as a prepared catalogue would hold them.

    Args:
        items: for each its `item_id` and attributes: text, numbers, lists of them; None where unknown. Or a table with a row an item.
        columns: the catalogue's attributes, in its order.
        undone: says, as a sentence, that nothing has happened.
        used: ids that none of them may have.

    Raises:
        DataError: an item has no id, no text, or what cannot be written as text, two have one id, or one has an id that is in use.
    """
    if hasattr(items, "__arrow_c_stream__") and not isinstance(items, pl.Series):
        try:
            items = pl.DataFrame(items).to_dicts()
        except (pl.exceptions.PolarsError, ImportError, TypeError, ValueError) as error:  # ImportError: pandas' columns may need pyarrow
            raise DataError(f"The items cannot be read as a table: {error}. {undone}") from error
    if not isinstance(items, Iterable) or isinstance(items, str | bytes | Mapping):
        raise DataError(f"Received the items {shown(items)}; expected is a list of objects, each with an item_id and a title. {undone}")
    read = ["title", *(name for name in columns or () if name != "title")]
    given_ids, named = [], []
    for place, item in enumerate(items, start=1):
        try:
            given_id, values = _item(item, read)
        except DataError as error:
            raise DataError(f"Item {place}{error} {undone}") from error
        given_ids.append(given_id)
        named.append(values)
    found: dict[str, dict[str, str]] = {}
    item_ids = ids(pl.Series(given_ids, dtype=pl.Object)).to_list()
    for place, (item_id, attributes) in enumerate(zip(item_ids, read_attributes(named), strict=True), start=1):
        if not attributes.keys() & set(read):
            raise DataError(f"Item {place} ({shown(item_id)}) has no text; give at least its title. {undone}")
        if item_id in found:
            raise DataError(f"Item {place} has the id {shown(item_id)}, as one before it has; give each item once. {undone}")
        if item_id in used:
            raise DataError(f"The id {shown(item_id)} is in use; choose another, or call update_items. {undone}")
        found[item_id] = attributes
    return found


def _item(item: object, columns: Sequence[str]) -> tuple[object, dict[str, object]]:
    """Return an item's id as it was given, and its values under the catalogue's names.

    Raises:
        DataError: what is wrong, as the end of a sentence that begins with the item.
    """
    if not isinstance(item, Mapping):
        raise DataError(f" is {shown(item)}; expected is an object with an item_id and a title.")
    wrong = {key: value for key, value in item.items() if not (_is_text(key) and (_is_text(value) or not isinstance(value, str)))}
    if wrong:
        raise DataError(f" has attributes that are not text: {shown(wrong)}; write them as strings.")
    named = {key: "item_id" if key.strip().casefold() == "item_id" else key for key in item}
    given_id = next((item[key] for key, name in named.items() if name == "item_id"), None)
    if why_no_id(given_id) is not None:
        raise DataError(f" has no item_id: received {shown(given_id)}; give it one that is not in use.")
    try:
        return given_id, named_attributes({key: value for key, value in item.items() if named[key] != "item_id"}, columns)
    except DataError as error:
        raise DataError(f": {error}") from error


def check_texts(histories: Sequence[Sequence[str]]) -> list[list[dict[str, str]]]:
    """Return texts as items that have them as their titles; refuse a blank one.

    Raises:
        DataError: what was received.
    """
    read = iter(read_attributes([{"title": text} for history in histories for text in history]))
    found = [[next(read) for _ in history] for history in histories]
    for history, items in zip(histories, found, strict=True):
        for text, item in zip(history, items, strict=True):
            if not item:
                raise DataError(f"Received the text {shown(text)}, which says nothing; expected is a text such as a title.")
    return found


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
