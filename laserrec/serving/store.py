"""What the service keeps: events, items, recommendations and keys. `sql_store.SqlStore` is the default; the same tests run on every store.

Times are whole microseconds since 1970. What a method wrote is durable once it returns: a crash of the program or the machine loses none
of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeVar

T = TypeVar("T")

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "write", "admin")
"""What a key allows; each scope allows what those before it do."""


@dataclass(frozen=True)
class Event:
    """Something that a user did with an item.

    Attributes:
        user_id: who.
        item_id: with which item; the catalogue need not hold it yet.
        kind: what, such as `purchase` or `impression`.
        time: when.
        event_id: the sender's own id, by which a repetition is known.
        recommendation_id: the answer that it followed from.
    """

    user_id: str
    item_id: str
    kind: str
    time: int
    event_id: str | None = None
    recommendation_id: str | None = None


@dataclass(frozen=True)
class Item:
    """An item as the store has it.

    Attributes:
        item_id: its id.
        attributes: its texts by name, `title` among them.
        hidden: it is in no answer while this is True.
        available_until: when it leaves all answers; never when None.
        deleted: it is gone; the row tells replicas so.
        change: the number of its last change, unique and rising in the order in which changes became visible.
    """

    item_id: str
    attributes: Mapping[str, str]
    hidden: bool = False
    available_until: int | None = None
    deleted: bool = False
    change: int = 0


@dataclass(frozen=True)
class ItemChange:
    """A change of one item; what is None stays as it is.

    Attributes:
        item_id: which.
        attributes: new values by name; None takes an attribute away.
        replace: whether `attributes` are all that it has afterwards, and everything else returns to its default.
        hidden: whether to hide it.
        available_until: when it leaves all answers; 0 for never.
        deleted: whether to delete it.
        known: its attributes where the store has no row of it: those that the model was trained with.
    """

    item_id: str
    attributes: Mapping[str, str | None] = field(default_factory=dict)
    replace: bool = False
    hidden: bool | None = None
    available_until: int | None = None
    deleted: bool = False
    known: Mapping[str, str] = field(default_factory=dict)

    def on(self, item: Item | None) -> Item:
        """Return the item that this change makes of one, or of none."""
        if self.deleted:
            return Item(self.item_id, {}, deleted=True)
        fresh = item is None or item.deleted or self.replace
        before = Item(self.item_id, self.known if item is None and not self.replace else {}) if fresh or item is None else item
        attributes = {name: value for name, value in {**before.attributes, **self.attributes}.items() if value is not None}
        hidden = before.hidden if self.hidden is None else self.hidden
        until = before.available_until if self.available_until is None else self.available_until or None
        return Item(self.item_id, attributes, hidden, until)


@dataclass(frozen=True)
class Shown:
    """A recommendation that was answered, kept so that later events can be attributed to it. It does not say whom it was for.

    Attributes:
        recommendation_id: its id in the answer.
        model: name and version of the model.
        time: when.
        items: ids, best first.
    """

    recommendation_id: str
    model: str
    time: int
    items: Sequence[str]


@dataclass(frozen=True)
class Key:
    """An access key; only the hash of its secret part is kept."""

    key_id: str
    hash: str
    scope: Scope
    created: int


class Store(Protocol):
    """Keeps what the service must not lose. Every method may be called from several threads at once."""

    def add_events(self, events: Sequence[Event]) -> list[bool]:
        """Keep events; returns for each whether it is new, False for an event id that is there already."""
        ...

    def history(self, user_id: str, limit: int) -> list[Event]:
        """Return a user's latest events, oldest first; of equal times the one that arrived first."""
        ...

    def erase_user(self, user_id: str) -> int:
        """Erase a user's events, also from the database's files; returns how many there were."""
        ...

    def latest_users(self, count: int) -> list[str]:
        """Return users among the latest events, at most `count`."""
        ...

    def popularity(self, ignored: Sequence[str]) -> dict[str, int]:
        """Return each item's number of events, without events of the ignored kinds."""
        ...

    def change_items(self, changes: Sequence[ItemChange]) -> list[Item]:
        """Apply changes in order, all or none; returns the items as they are afterwards."""
        ...

    def item(self, item_id: str) -> Item | None:
        """Return an item's row; None where the store has none."""
        ...

    def items_since(self, change: int, limit: int) -> list[Item]:
        """Return items whose last change came after a number, in order of their changes."""
        ...

    def add_recommendations(self, shown: Sequence[Shown]) -> None:
        """Keep recommendations that were answered."""
        ...

    def attribution(self, ignored: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return, for each model's full name, how many answers it gave and how many of them an event followed that is not ignored."""
        ...

    def add_key(self, key: Key) -> None:
        """Keep an access key."""
        ...

    def remove_key(self, key_id: str) -> bool:
        """Remove an access key; returns whether there was one."""
        ...

    def access_keys(self) -> list[Key]:
        """Return all access keys."""
        ...

    def all_events(self) -> Iterator[Event]:
        """Yield every event in the order of arrival, for a backup."""
        ...

    def all_recommendations(self) -> Iterator[Shown]:
        """Yield every recommendation, for a backup."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


def in_parts(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of at most `size` values."""
    part: list[T] = []
    for value in values:
        part.append(value)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
