"""What the fits of one run share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from laserrec.training.loop import Observer


@dataclass(frozen=True)
class Session:
    """What every fit of one run shares.

    Attributes:
        folder: the run's; each fit keeps its checkpoint in a folder of its own below.
        resume: continue where checkpoints are found.
        observers: who watches.
    """

    folder: Path
    resume: bool = False
    observers: Sequence[Observer] = ()
