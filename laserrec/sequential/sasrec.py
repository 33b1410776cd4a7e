"""SASRec: a causal transformer over item ids (Kang and McAuley, ICDM 2018).

Departures, beside those of `causal.py`: GELU; normalisation before each branch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from laserrec.layers.blocks import Block, initialise
from laserrec.sequential.causal import CausalRecommender


class SASRec(CausalRecommender):
    """Encodes a history by causal self-attention."""

    def __init__(
        self, *, catalogue_size: int, width: int, blocks: int, heads: int, max_history: int, dropout: float, seen_penalty: bool = False
    ) -> None:
        """Build the model with fresh weights.

        Args:
            catalogue_size: N, items that can be scored.
            width: width of embeddings and states, a multiple of `heads`.
            blocks: transformer blocks.
            heads: attention heads.
            max_history: positions with an embedding of their own.
            dropout: of embeddings, attention and feed-forward.
            seen_penalty: train a δ that is taken from the scores of items in the history.
        """
        super().__init__(catalogue_size=catalogue_size, width=width, max_history=max_history, seen_penalty=seen_penalty)
        self.positions = nn.Embedding(max_history, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout=dropout, norm="before") for _ in range(blocks))
        initialise(self)

    def encode(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Add positions and attend to what came before. See the base class."""
        positions = torch.arange(vectors.shape[1], device=vectors.device)
        states: Tensor = self.dropout(self.norm(vectors + self.positions(positions)))
        for block in self.blocks:
            states = block(states, causal=True)
        return states
