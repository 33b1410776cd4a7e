"""The one interface of what Laser is compared with.

Files of this room import nothing heavy at their top, for the command line reads their names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from laserrec.config import LaserConfig
    from laserrec.training.context import FitContext, Stage


@dataclass(frozen=True)
class Fitted:
    """A baseline that is ready to score.

    Attributes:
        label: what tables call it.
        scores: from histories, items int64 [B, S] padded on the right and a mask bool [B, S] with at least one True a row, to float [B, N].
        seconds: that reading, training, counting and blending took; 0 for a baseline that needs none.
        parameters: numbers that training, or a choice on validation, set.
    """

    label: str
    scores: Callable[[Tensor, Tensor], Tensor]
    seconds: float = 0.0
    parameters: int = 0


class Baseline(Protocol):
    """Something that Laser is compared with.

    To add one, write a file with such an object and name it in `collection.BASELINES`.
    """

    @property
    def name(self) -> str:
        """What the command line and the folder call it."""

    @property
    def label(self) -> str:
        """What tables call it."""

    @property
    def summary(self) -> str:
        """What it is, in a few words for documents."""

    def stages(self, config: LaserConfig) -> Sequence[Stage]:
        """Return what must have run before `fit`: the fits that it consists of, and the text vectors that they or it read.

        Raises:
            ConfigError: with these settings there is no such baseline.
        """

    def depends_on(self, config: LaserConfig) -> dict[str, Any]:
        """Return the settings that its ranks depend on, by section, but for the seed."""

    def fit(self, context: FitContext) -> Fitted:
        """Make it from what its stages left in the context."""
