"""The most popular items, the same for everyone: what any personalised model must beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from laserrec.baselines.base import Fitted
from laserrec.baselines.seen_penalty import choose_penalty

if TYPE_CHECKING:
    from laserrec.config import LaserConfig
    from laserrec.training.context import FitContext, Stage


class Popularity:
    """Scores an item by its events in training."""

    name = "popularity"
    label = "Popularity"
    summary = "the items with the most events in training"

    def stages(self, config: LaserConfig) -> Sequence[Stage]:
        """Nothing is trained."""
        return []

    def depends_on(self, config: LaserConfig) -> dict[str, Any]:
        """No setting matters."""
        return {}

    def fit(self, context: FitContext) -> Fitted:
        """Count events, and choose a penalty on seen items."""
        import torch

        counts = torch.from_numpy(context.popularity).float().to(context.device)
        fitted = Fitted(self.label, lambda items, mask: counts.expand(len(items), -1))
        return choose_penalty(fitted, context.data.cases("valid"), context.device)
