"""What somebody who prepares a log may want to know and choose otherwise. Options have their names in Python, not those of flags."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MANY_TIES = 0.1
"""Share of events at a moment that another of the same user's has, from which figures are said to mean little."""


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
        return self.written(lambda name: f"{name}=")

    def written(self, option: Callable[[str], str]) -> str:
        """Return the advice with the options' examples, each behind what `option` returns for its name."""
        chosen = ", ".join(option(name) + value for name, value in self.options)
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
