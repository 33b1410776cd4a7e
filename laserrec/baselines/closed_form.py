"""What needs no training step by step: counted or solved at once, and no setting matters."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laserrec.baselines.base import Fitted

if TYPE_CHECKING:
    from laserrec.config import LaserConfig
    from laserrec.layers.item_weights import ItemWeights, SparseWeights
    from laserrec.layers.neighbours import Neighbours
    from laserrec.training.context import FitContext, Stage


@dataclass(frozen=True)
class ClosedForm:
    """Scores items by weights between them and those of the history, whose own items get 0, so it can never recommend one.

    There is no penalty on seen items to choose: where they are ranked too, it misses whoever takes the same again.

    Attributes:
        name: what the command line calls it.
        label: what tables call it.
        summary: what it is, in a few words.
        solve: finds the weights.
    """

    name: str
    label: str
    summary: str
    solve: Callable[[FitContext], Neighbours | ItemWeights | SparseWeights]

    def stages(self, config: LaserConfig) -> Sequence[Stage]:
        """Nothing is trained step by step."""
        return []

    def depends_on(self, config: LaserConfig) -> dict[str, Any]:
        """No setting matters."""
        return {}

    def fit(self, context: FitContext) -> Fitted:
        """Find the weights."""
        began = time.monotonic()
        solved = self.solve(context)
        seconds = time.monotonic() - began
        return Fitted(self.label, solved.to(context.device).scores, seconds)
