"""What somebody who prepares a log may want to know and choose otherwise. The words name no flags: the command line adds those."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from laserrec.data.options import FLAGS

MANY_TIES = 0.1
"""Share of events at a moment that another of the same user's has, from which figures are said to mean little."""
OWN_FLAGS = {
    "min_user": "--min-user",
    "min_item": "--min-item",
    "ties": "--ties",
    "max_bad_share": "--max-bad-share",
    "split": "--split",
}
"""What the options of preparing, beside those of reading, are called on the command line."""


@dataclass(frozen=True)
class Advice:
    """One thing to know, and the options that change it.

    Attributes:
        text: what was found and what it means.
        options: name of each option with an example of its value.
    """

    text: str
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self._with(f"{name}={value}" for name, value in self.options)

    def on_command_line(self) -> str:
        """Return the advice with the options as flags."""
        return self._with(f"{(FLAGS | OWN_FLAGS)[name]} {value}" for name, value in self.options)

    def _with(self, options: Iterable[str]) -> str:
        chosen = ", ".join(options)
        return f"{self.text} ({chosen})" if chosen else self.text


def tied_events(share: float, order: str) -> Advice:
    """Say what it means that many events share their moment with another of the same user's.

    Args:
        share: of all events.
        order: `file` or `hash`, which decides.
    """
    decides = "the order of the file, which a model learns as if it were the users'" if order == "file" else "a hash, which teaches nothing"
    other = "hash" if order == "file" else "file"
    return Advice(
        f"{share:.0%} of the events share their moment with another of the same user's: what comes next within a moment is decided by "
        f"{decides}; figures on such data say little about order",
        (("ties", other),),
    )


def small_core(dropped: int, events: int, min_user: int, min_item: int) -> Advice:
    """Say that the core costs much of the log."""
    lower = (("min_user", str(max(1, min_user // 2))), ("min_item", str(max(1, min_item // 2))))
    return Advice(
        f"{dropped:,} of {events:,} events ({dropped / events:.0%}) were dropped because their user has fewer than {min_user} events or "
        f"their item fewer than {min_item}; keep more with lower limits",
        tuple(option for option, limit in zip(lower, (min_user, min_item), strict=True) if limit > 1),
    )


def unmatched_items(known: int, items: int, of_log: str, of_items: str) -> Advice:
    """Say that few or none of the log's items have a text, which is rarely meant.

    Args:
        known: items of the log that the table of items holds.
        items: items of the log.
        of_log: an id as the log writes it.
        of_items: an id as the table of items writes it.
    """
    found = "NONE" if not known else f"ONLY {known:,}"
    return Advice(
        f"{found} of the log's {items:,} items {'are' if known != 1 else 'is'} in the table of items, so the others have no text: the log "
        f"writes ids such as {of_log!r}, the table of items {of_items!r}; check which column holds the ids",
        (("item", "COLUMN"), ("item_id", "COLUMN")),
    )
