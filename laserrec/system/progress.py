"""Progress of long work in one dialect: fits, encoding, fusing, batches, searches and the demonstration report to the same observers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

Progress = Callable[[int], None]
"""Called with the number of finished steps."""


class Observer:
    """Watches long work: a progress bar, a log, a clock. Every method does nothing here; override those that matter.

    Example:
        class Printed(Observer):
            def on_epoch(self, record):
                print(record["epoch"], record["valid"])

        Laser.fit(data, observers=[Printed()])
    """

    def begin(self, name: str, steps: int, done: int, history: Sequence[Mapping[str, Any]] = ()) -> None:
        """Work of `steps` steps begins, `done` of them already made; a fit's `history` has a record of each epoch validated."""

    def on_step(self, step: int, scalars: Mapping[str, float]) -> None:
        """`step` steps are finished; a fit gives its figures."""

    def on_epoch(self, record: Mapping[str, Any]) -> None:
        """An epoch of a fit was validated; epoch 0 stands for the untrained weights."""

    def log(self, text: str) -> None:
        """A sentence about what follows."""

    def end(self) -> None:
        """The work ended, stopped or failed."""


@contextmanager
def watched(observers: Sequence[Observer], name: str, steps: int) -> Iterator[Progress]:
    """Report progress of work other than a fit.

    Args:
        observers: who watches.
        name: what the work is called.
        steps: how many there are.

    Yields:
        A callback that takes the number of finished steps.
    """

    def progress(done: int) -> None:
        for observer in observers:
            observer.on_step(done, {})

    for observer in observers:
        observer.begin(name, steps, 0)
    try:
        yield progress
    finally:
        for observer in observers:
            observer.end()
