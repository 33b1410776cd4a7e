"""Which items of a catalogue a list may hold, as masks that are computed once and kept until an item changes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from laserrec.serving.shelf import Condition, Shelf

KEPT = 64
"""Masks that are kept: a shop has some dozens of categories, and at a million items this is 64 MB."""


class Choices:
    """Masks over a model's items, bool [N], in the model's order. One thread calls it."""

    def __init__(self, shelf: Shelf, item_ids: Callable[[], list[str]]) -> None:
        """Choose among items.

        Args:
            shelf: the items with their attributes.
            item_ids: returns their ids in the model's order.
        """
        self._shelf, self._item_ids = shelf, item_ids
        self._masks: OrderedDict[object, NDArray[np.bool_]] = OrderedDict()
        self._changes = -1
        self._place: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._masks)

    def allowed(self, only: frozenset[str] | None, conditions: Sequence[Condition], now: int) -> NDArray[np.bool_] | None:
        """Return which items a list may hold; None where it may hold all.

        Args:
            only: ids to choose from; all when None.
            conditions: what items must be like.
            now: microseconds since 1970, for items whose time has passed.
        """
        unavailable = self._shelf.unavailable(now)
        if only is None and not conditions and not unavailable:
            return None
        if self._changes != self._shelf.changes:
            self._masks.clear()
            self._place = {item_id: place for place, item_id in enumerate(self._item_ids())}
            self._changes = self._shelf.changes
        key = (only, tuple(conditions))
        if key not in self._masks:
            self._masks[key] = self._mask(only, conditions, unavailable)
            if len(self._masks) > KEPT:
                self._masks.popitem(last=False)
        self._masks.move_to_end(key)
        return self._masks[key]

    def _mask(self, only: frozenset[str] | None, conditions: Sequence[Condition], unavailable: set[str]) -> NDArray[np.bool_]:
        matching = self._shelf.matching(conditions)
        if only is not None:
            matching = {item_id for item_id in only if item_id in (self._place if matching is None else matching)}
        mask = np.full(len(self._place), matching is None)
        mask[[self._place[item_id] for item_id in matching or ()]] = True
        mask[[self._place[item_id] for item_id in unavailable]] = False
        return mask
