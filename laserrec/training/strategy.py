"""How the processes that train one model work together. The loop knows this interface; models and tasks know nothing of it.

Every process holds the whole model and runs the same loop. A step's batch is cut into shards whose number belongs to the run, and
processes share them, so what is computed does not depend on how many processes there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from torch import Tensor

T = TypeVar("T")


class Strategy(Protocol):
    """What the training loop asks of the processes it runs in. Each method is called by all of them, in the same order."""

    @property
    def main(self) -> bool:
        """Whether this is the process that validates, writes files and reports."""

    def share(self, count: int) -> range:
        """Return which of `count` pieces of work are this process's."""

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes; the tensors have the same shapes and dtypes everywhere."""

    def gather(self, value: T) -> list[T]:
        """Return every process's value, in the order of the processes."""

    def agree(self, compute: Callable[[], T]) -> T:
        """Compute a value in the main process, and return it in all."""

    def align(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by the main process's."""


class SingleProcess:
    """The strategy of a process that trains alone: nothing is exchanged.

    Example:
        assert list(SingleProcess().share(3)) == [0, 1, 2]
    """

    main = True

    def share(self, count: int) -> range:
        """Return all of them."""
        return range(count)

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Leave them as they are."""

    def gather(self, value: T) -> list[T]:
        """Return the one value."""
        return [value]

    def agree(self, compute: Callable[[], T]) -> T:
        """Compute it."""
        return compute()

    def align(self, tensors: Sequence[Tensor]) -> None:
        """Leave them as they are."""


ALONE = SingleProcess()
