"""GRU4Rec: a recurrent network over item ids (Hidasi et al., ICLR 2016), trained as `causal.py` says.

Departures, beside those: a history is one session; embeddings and states have one width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from laserrec.sequential.causal import CausalRecommender


class GRU4Rec(CausalRecommender):
    """Encodes a history by gated recurrent units."""

    def __init__(
        self, *, catalogue_size: int, width: int, blocks: int, max_history: int, dropout: float, seen_penalty: bool = False
    ) -> None:
        """Build the model with fresh weights.

        Args:
            catalogue_size: N, items that can be scored.
            width: width of embeddings and states.
            blocks: recurrent layers.
            max_history: longest history; a convention here, for a recurrent network has no positions.
            dropout: of embeddings, between layers and of states.
            seen_penalty: train a δ that is taken from the scores of items in the history.
        """
        super().__init__(catalogue_size=catalogue_size, width=width, max_history=max_history, seen_penalty=seen_penalty)
        self.recurrent = nn.GRU(width, width, blocks, batch_first=True, dropout=dropout if blocks > 1 else 0.0)
        self.output = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.items.weight, std=0.02)
        for name, weights in self.recurrent.named_parameters():
            if "weight_hh" in name:
                for gate in weights.chunk(3):
                    nn.init.orthogonal_(gate)

    def encode(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Go through the history item by item. See the base class."""
        if not vectors.numel():
            return torch.zeros_like(vectors)
        states: Tensor = self.output(self.dropout(self.recurrent(self.dropout(vectors))[0]))
        return states
