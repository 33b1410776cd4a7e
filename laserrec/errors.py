"""Everything laserrec raises on purpose.

    LaserrecError
    ├── ConfigError           a setting is unknown, out of range, or contradicts another
    ├── MissingExtraError     an optional dependency is not installed
    ├── AssetError            a named download is absent, unreachable or damaged
    ├── DataError             an input table cannot be used
    │   ├── BadRowsError      more unreadable rows than the threshold allows
    │   └── UnknownIdError    an item or user id that the catalogue does not hold
    ├── CheckpointError       a model folder or checkpoint cannot be read or does not fit
    ├── ForkedProcessError    a model is asked in a fork of the process that loaded it
    ├── StoreError            the service's database cannot be reached or used
    ├── RefusedError          the service has too much to do, or is closing
    ├── DeadlineError         the service could not answer in time
    └── TrainingError         a run cannot go on
        ├── NonFiniteLossError    the loss became NaN or infinite
        └── InterruptedTraining   stopped on request; the run can be resumed

A message says what was received, what is allowed and what to do.
"""

from __future__ import annotations

import difflib
import reprlib
import unicodedata
from collections.abc import Iterable, Sequence
from functools import partial
from heapq import nlargest
from itertools import islice, takewhile
from typing import Literal

COMPARED = 10_000
"""Known ids of which the likeliest are chosen, by their first and last letters; of more, those that share the longest beginning or end."""
LIKELIEST = 300
"""Known ids that an unknown one is compared with, letter by letter."""
COMPARED_LETTERS = 64
"""Letters of an id that are compared: the work grows with their square."""
_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxstring, _BRIEF.maxother = 3, 160, 160


def shown(value: object) -> str:
    """Return a value as a message shows it: as Python writes it, cut where it is long, without characters that a terminal obeys."""
    try:
        return _BRIEF.repr(str(value) if isinstance(value, str) else value)
    except ValueError:  # a whole number of more digits than Python writes down
        return f"a {type(value).__name__} of too many digits to show"


def printable(text: str) -> str:
    """Return a text for a terminal or a log: control characters, which could move the cursor or hide text, are written as escapes."""
    # Joiners stay: emoji and some scripts need them.
    return "".join(
        letter
        if letter.isprintable() or letter in "\u200c\u200d" or unicodedata.category(letter) == "Zs"
        else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


class LaserrecError(Exception):
    """Root of every error that laserrec raises on purpose.

    Attributes:
        parameters: what to give otherwise, by its name in Python, such as `folder` or `resume`; the command line adds its own names.
    """

    def __init__(self, *message: object, parameters: Sequence[str] = ()) -> None:
        """Say what was received, what is allowed and what to do."""
        super().__init__(*message)
        self.parameters = tuple(parameters)


class ConfigError(LaserrecError):
    """A setting is unknown, out of range, or contradicts another."""


class MissingExtraError(LaserrecError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        """Name the package, the extra that brings it and what it is for."""
        super().__init__(f"{purpose} needs the package {package!r}, which is not installed. Run: pip install 'laserrec[{extra}]'")


class AssetError(LaserrecError):
    """A named download is absent, unreachable or damaged."""


class DataError(LaserrecError):
    """An input table cannot be used."""


class BadRowsError(DataError):
    """More unreadable rows than the threshold allows."""


class UnknownIdError(DataError):
    """An item or user id that the catalogue does not hold."""

    def __init__(self, kind: str, unknown: object, known: Iterable[str] = ()) -> None:
        """Name the id and the closest known ones.

        Args:
            kind: "item" or "user".
            unknown: the id that was received; a number, say, is compared as it would be written.
            known: every id that would have been accepted.
        """
        super().__init__(kind, unknown)
        self._kind, self._unknown, self._known = kind, unknown, known
        self._message = ""

    def __str__(self) -> str:
        # Written when it is first read: whoever holds a lock while raising this does not search the catalogue meanwhile.
        if not self._message:
            wanted = str(self._unknown)[:COMPARED_LETTERS]
            closest = difflib.get_close_matches(wanted, _alike(wanted, self._known), n=3, cutoff=0.5)
            hint = f"The closest known ids are {', '.join(map(shown, closest))}." if closest else "No known id is similar to it."
            self._message = f"Unknown {self._kind} id {shown(self._unknown)}. {hint}"
        return self._message


class CheckpointError(LaserrecError):
    """A model folder or checkpoint cannot be read or does not fit."""


class StoreError(LaserrecError):
    """The service's database cannot be reached or used."""


class RefusedError(LaserrecError):
    """The service has too much to do, or is closing.

    Attributes:
        cause: what there is too much of, or `closing`.
        retry_after: seconds after which there should be room.
    """

    def __init__(self, cause: Literal["requests", "tokens", "closing"], retry_after: int) -> None:
        """Say why, and when to ask again."""
        super().__init__("The service is closing." if cause == "closing" else f"Too many {cause} wait; ask again in {retry_after} s.")
        self.cause, self.retry_after = cause, retry_after


class DeadlineError(LaserrecError):
    """The service could not answer in time."""


class ForkedProcessError(LaserrecError):
    """A model is asked in a fork of the process that loaded it, where its threads are gone."""


class TrainingError(LaserrecError):
    """A run cannot go on."""


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite."""


class InterruptedTraining(TrainingError):  # noqa: N818 - not a failure: the run is complete up to its last step
    """Stopped on request; the run can be resumed."""


def _alike(unknown: str, known: Iterable[str]) -> list[str]:
    """Return the known ids that share the longest beginning and end with an unknown one, cut to the letters that are compared."""
    ids = list(known)
    if len(ids) > COMPARED:
        lines = "\n".join(["", *ids, ""])
        # Whoever shares n letters shares fewer, too.
        heads = takewhile(lambda head: f"\n{head}" in lines, (unknown[:n] for n in range(1, len(unknown) + 1)))
        tails = takewhile(lambda tail: f"{tail}\n" in lines, (unknown[-n:] for n in range(1, len(unknown) + 1)))
        ends = (max(heads, key=len, default=""), str.startswith), (max(tails, key=len, default=""), str.endswith)
        ids = [name for end, same in ends if end for name in islice((name for name in ids if same(name, end)), COMPARED // 2)]
    likeliest = nlargest(LIKELIEST, dict.fromkeys(ids), key=partial(_shared, unknown))
    return list(dict.fromkeys(name[:COMPARED_LETTERS] for name in likeliest))


def _shared(one: str, other: str) -> int:
    """Return how many letters two ids share at their beginning and at their end."""
    letters = zip(one, other, strict=False), zip(reversed(one), reversed(other), strict=False)
    return sum(1 for pairs in letters for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
