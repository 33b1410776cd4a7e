"""Items that were taken together with those of the history: counting, the oldest recommender there is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from laserrec.baselines.base import Fitted

if TYPE_CHECKING:
    from laserrec.config import LaserConfig
    from laserrec.training.context import FitContext, Stage


class ItemNeighbours:
    """Scores items by how often they were taken near those of the history.

    The history's own items get 0, as those that were never taken near any of them, so it can never recommend one. There is no penalty on
    seen items to choose: where they are ranked too, it misses whoever takes the same again.
    """

    name = "item-knn"
    label = "Item neighbours"
    summary = "items that were taken near those of the history, counted"

    def stages(self, config: LaserConfig) -> Sequence[Stage]:
        """Nothing is trained."""
        return []

    def depends_on(self, config: LaserConfig) -> dict[str, Any]:
        """No setting matters."""
        return {}

    def fit(self, context: FitContext) -> Fitted:
        """Count neighbours."""
        from laserrec.training.neighbours import count_neighbours

        began = time.monotonic()
        counted = count_neighbours(context.histories, len(context.data.item_ids))
        seconds = time.monotonic() - began
        return Fitted(self.label, counted.to(context.device).scores, seconds)
