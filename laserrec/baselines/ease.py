"""EASE (Steck, WWW 2019): each item predicted from the others a user took, by one linear system with a closed solution."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from laserrec.baselines.base import Fitted

if TYPE_CHECKING:
    from laserrec.config import LaserConfig
    from laserrec.training.context import FitContext, Stage


class Ease:
    """Scores items by EASE's weights from those of the history, whose own items get 0 as in `item_knn`."""

    name = "ease"
    label = "EASE"
    summary = "each item predicted from the others a user took, in closed form"

    def stages(self, config: LaserConfig) -> Sequence[Stage]:
        """Nothing is trained step by step."""
        return []

    def depends_on(self, config: LaserConfig) -> dict[str, Any]:
        """No setting matters."""
        return {}

    def fit(self, context: FitContext) -> Fitted:
        """Solve for the weights."""
        from laserrec.training.ease import fit_ease

        began = time.monotonic()
        solved = fit_ease(context.histories, len(context.data.item_ids))
        seconds = time.monotonic() - began
        return Fitted(self.label, solved.to(context.device).scores, seconds)
