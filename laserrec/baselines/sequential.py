"""A trained id-based recommender, as a baseline."""

from __future__ import annotations

import torch
from torch import Tensor

from laserrec.sequential.base import SequentialRecommender
from laserrec.sequential.build import score_recent
from laserrec.sequential.ensemble import Ensemble


class Sequential:
    """A sequential recommender, or several as one, scoring with the most recent items that it reads."""

    def __init__(self, model: SequentialRecommender | Ensemble, name: str, trained_parameters: int) -> None:
        """Wrap a trained model, which goes to evaluation mode.

        Args:
            model: its item vectors may have been fixed since training.
            name: what tables call it.
            trained_parameters: as they were in training.
        """
        self.model, self.name, self.trained_parameters = model.eval(), name, trained_parameters

    @torch.no_grad()
    def scores(self, items: Tensor, mask: Tensor) -> Tensor:
        """Score the catalogue; see `Baseline`."""
        return score_recent(self.model, items, mask)
