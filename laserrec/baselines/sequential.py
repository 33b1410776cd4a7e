"""A trained id-based recommender, as a baseline."""

from __future__ import annotations

import torch
from torch import Tensor

from laserrec.nn.sequential import SequentialRecommender
from laserrec.training.collaborative import score_recent


class Sequential:
    """SASRec or BERT4Rec, scoring with the most recent items that it reads."""

    def __init__(self, model: SequentialRecommender, name: str | None = None) -> None:
        """Wrap a trained model, which goes to evaluation mode; its class names it unless `name` does."""
        self.model, self.name = model.eval(), name or type(model).__name__

    @property
    def trained_parameters(self) -> int:
        """Every weight, item embeddings included."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @torch.no_grad()
    def scores(self, items: Tensor, mask: Tensor) -> Tensor:
        """Score the catalogue; see `Baseline`."""
        return score_recent(self.model, items, mask)
