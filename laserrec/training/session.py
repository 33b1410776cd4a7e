"""What the fits of one run share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from laserrec.system.devices import choose
from laserrec.training.loop import Observer


@dataclass(frozen=True)
class Session:
    """What every fit of one run shares.

    Attributes:
        folder: the run's; each fit keeps its checkpoint in a folder of its own below. None to keep none.
        resume: continue where checkpoints are found.
        observers: who watches.
        device: where everything is computed; a fit that was stopped may be resumed on another one.
    """

    folder: Path | None = None
    resume: bool = False
    observers: Sequence[Observer] = ()
    device: torch.device = field(default_factory=choose)

    def place(self, name: str) -> Path | None:
        """Return where a fit is kept."""
        return None if self.folder is None else self.folder / name

    @contextmanager
    def watched(self, name: str, steps: int) -> Iterator[Callable[[int], None]]:
        """Let the observers watch work that is no fit; yields what is to be told how many of the `steps` are done."""

        def told(done: int) -> None:
            for observer in self.observers:
                observer.on_step(done, {})

        for observer in self.observers:
            observer.begin(name, steps, 0)
        try:
            yield told
        finally:
            for observer in self.observers:
                observer.end()
