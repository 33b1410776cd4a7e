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
