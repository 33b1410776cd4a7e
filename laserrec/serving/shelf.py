"""The items that answers may hold: their attributes, which are hidden or past their time, and which match a filter."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from laserrec.serving.store import Item


@dataclass(frozen=True)
class Condition:
    """What an attribute must be for an item to match; everything that is set must hold.

    Attributes:
        attribute: its name.
        any_of: values one of which it must have; any when None.
        none_of: values that it must not have; an item without the attribute has none of them.
        at_least: smallest number that it may be; text that is no number never matches a range.
        at_most: largest number that it may be.
    """

    attribute: str
    any_of: frozenset[str] | None = None
    none_of: frozenset[str] = frozenset()
    at_least: float | None = None
    at_most: float | None = None

    def admits(self, value: str) -> bool:
        """Return whether an attribute of this value matches."""
        if value in self.none_of or (self.any_of is not None and value not in self.any_of):
            return False
        if self.at_least is None and self.at_most is None:
            return True
        number = _number(value)
        if number is None:
            return False
        return (self.at_least is None or number >= self.at_least) and (self.at_most is None or number <= self.at_most)

    @property
    def admits_absence(self) -> bool:
        """Whether an item without the attribute matches."""
        return self.any_of is None and self.at_least is None and self.at_most is None


class Shelf:
    """All items by id. One thread changes it; others may look up single items meanwhile.

    Attributes:
        changes: rises whenever an item is put, dropped, or past its time.
    """

    def __init__(self, catalogue: Iterable[Mapping[str, str]]) -> None:
        """Put a model's catalogue on the shelf: each item its `item_id` and attributes."""
        self._items: dict[str, Item] = {}
        self._unavailable: set[str] = set()
        self._expiring: list[tuple[int, str]] = []
        self.changes = 0
        # By attribute and value, made when an attribute is first filtered by: titles alone would take as much memory as all the rest.
        self._index: dict[str, dict[str, set[str]]] = {}
        for entry in catalogue:
            self.put(Item(entry["item_id"], {name: value for name, value in entry.items() if name != "item_id"}))

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._items

    def __getitem__(self, item_id: str) -> Item:
        return self._items[item_id]

    def get(self, item_id: str) -> Item | None:
        """Return an item; None where there is none of this id."""
        return self._items.get(item_id)

    def values(self) -> Iterable[Item]:
        """Return all items."""
        return self._items.values()

    def put(self, item: Item) -> None:
        """Put an item on the shelf in its present form."""
        self.drop(item.item_id)
        self._items[item.item_id] = item
        if item.hidden:
            self._unavailable.add(item.item_id)
        if item.available_until is not None:
            heapq.heappush(self._expiring, (item.available_until, item.item_id))
        for attribute, index in self._index.items():
            if attribute in item.attributes:
                index.setdefault(item.attributes[attribute], set()).add(item.item_id)

    def drop(self, item_id: str) -> None:
        """Take an item off the shelf, if it is there."""
        before = self._items.pop(item_id, None)
        self._unavailable.discard(item_id)
        self.changes += 1
        for attribute, index in self._index.items():
            if before is not None and attribute in before.attributes:
                index[before.attributes[attribute]].discard(item_id)

    def unavailable(self, now: int) -> set[str]:
        """Return the ids that no answer may hold at a time, in microseconds since 1970; the set is the shelf's own."""
        while self._expiring and self._expiring[0][0] <= now:
            until, item_id = heapq.heappop(self._expiring)
            item = self._items.get(item_id)
            if item is not None and item.available_until == until:  # else it was changed since
                self._unavailable.add(item_id)
                self.changes += 1
        return self._unavailable

    def matching(self, conditions: Iterable[Condition]) -> set[str] | None:
        """Return the ids of items that match all conditions; None where there is no condition."""
        found: set[str] | None = None
        for condition in conditions:
            matches = self._matching(condition)
            found = matches if found is None else found & matches
        return found

    def _matching(self, condition: Condition) -> set[str]:
        index = self._indexed(condition.attribute)
        if condition.admits_absence:
            return set(self._items).difference(*(ids for value, ids in index.items() if not condition.admits(value)))
        values = index if condition.any_of is None else condition.any_of & index.keys()
        return set().union(*(index[value] for value in values if condition.admits(value)))

    def _indexed(self, attribute: str) -> dict[str, set[str]]:
        if attribute not in self._index:
            index: dict[str, set[str]] = {}
            for item in self._items.values():
                if attribute in item.attributes:
                    index.setdefault(item.attributes[attribute], set()).add(item.item_id)
            self._index[attribute] = index
        return self._index[attribute]


@lru_cache(maxsize=2**16)
def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
