"""Everything laserrec raises on purpose.

    LaserrecError
    ├── ConfigError           a setting is unknown, out of range, or contradicts another
    ├── MissingExtraError     an optional dependency is not installed
    ├── AssetError            a named download is absent, unreachable or damaged
    ├── DataError             an input table cannot be used
    │   ├── BadRowsError      more unreadable rows than the threshold allows
    │   └── UnknownIdError    an item or user id that the catalogue does not hold
    ├── CheckpointError       a model folder or checkpoint cannot be read or does not fit
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
from collections.abc import Iterable, Sequence
from itertools import islice, takewhile
from typing import Literal

COMPARED = 10_000
"""Known ids that an unknown one is compared with, letter by letter."""


class LaserrecError(Exception):
    """Root of every error that laserrec raises on purpose."""


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

    def __init__(self, kind: str, unknown: object, known: Iterable[str]) -> None:
        """Name the id and the closest known ones.

        Args:
            kind: "item" or "user".
            unknown: the id that was received; a number, say, is compared as it would be written.
            known: every id that would have been accepted.
        """
        closest = difflib.get_close_matches(str(unknown), _alike(str(unknown), list(known)), n=3, cutoff=0.5)
        hint = f"The closest known ids are {', '.join(map(repr, closest))}." if closest else "No known id is similar to it."
        super().__init__(f"Unknown {kind} id {unknown!r}. {hint}")


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


class TrainingError(LaserrecError):
    """A run cannot go on."""


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite."""


class InterruptedTraining(TrainingError):  # noqa: N818 - not a failure: the run is complete up to its last step
    """Stopped on request; the run can be resumed."""


def _alike(unknown: str, known: Sequence[str]) -> list[str]:
    """Return the known ids; of more than `COMPARED`, some of those that share the longest beginning, or end, with the unknown one."""
    if len(known) <= COMPARED:
        return list(known)
    lines = "\n".join(["", *known, ""])
    # Whoever shares n letters shares fewer, too.
    heads = takewhile(lambda head: f"\n{head}" in lines, (unknown[:n] for n in range(1, len(unknown) + 1)))
    tails = takewhile(lambda tail: f"{tail}\n" in lines, (unknown[-n:] for n in range(1, len(unknown) + 1)))
    ends = (max(heads, key=len, default=""), str.startswith), (max(tails, key=len, default=""), str.endswith)
    found = [name for end, same in ends if end for name in islice((name for name in known if same(name, end)), COMPARED // 2)]
    return list(dict.fromkeys(found))
