"""BERT4Rec: a bidirectional transformer over item ids, trained by Cloze (Sun et al., CIKM 2019).

Departures: positions are counted from the history's end, so that "the next item" always has the same one; a share of the training rows is
cut to a random beginning with its last item alone hidden, as in scoring; item embeddings are tied to the output without a projection
between. An optional penalty on items of the history. Knows nothing of training loops.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, pad

from laserrec.layers.blocks import Block, initialise
from laserrec.sequential.base import MeanLoss, SeenPenalty, SequentialRecommender, drop_last, encode_by_length, last_states
from laserrec.sequential.cross_entropy import catalogue_cross_entropy


class BERT4Rec(SequentialRecommender):
    """Predicts hidden items from the items on both sides."""

    hidden_share = 0.3
    """Chance that Cloze training hides an item."""
    last_share = 0.5
    """Share of training rows that are cut to a random beginning, its last item alone hidden."""

    def __init__(
        self, *, catalogue_size: int, width: int, blocks: int, heads: int, max_history: int, dropout: float, seen_penalty: bool = False
    ) -> None:
        """Build the model with fresh weights.

        Args:
            catalogue_size: N, items that can be scored.
            width: width of embeddings and states, a multiple of `heads`.
            blocks: transformer blocks.
            heads: attention heads.
            max_history: items of a history that fit, beside the hidden next one.
            dropout: of embeddings, attention and feed-forward.
            seen_penalty: train a δ that is taken from the scores of items in the history.
        """
        super().__init__(catalogue_size=catalogue_size, width=width, max_history=max_history)
        self.positions = nn.Embedding(max_history + 1, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout=dropout, norm="before") for _ in range(blocks))
        self.bias = nn.Parameter(torch.zeros(catalogue_size))
        self.penalty = SeenPenalty() if seen_penalty else None
        initialise(self)
        self.hidden = nn.Parameter(torch.randn(1, width) * 0.02)  # the vector of a hidden item, whose index is N

    def states(self, items: Tensor, mask: Tensor) -> Tensor:
        """Encode histories; every state sees the whole history. See the base class."""
        self.check_length(items)
        # Place 0 is the next item's, so a history of one item starts at place 1.
        return self._encode(items, mask, self.item_vectors, first_place=1)

    def scores(self, items: Tensor, mask: Tensor) -> Tensor:
        """Score every item for a hidden position after the history. See the base class."""
        self.check_length(items)
        table_ND, lengths = self.item_vectors, mask.sum(1, keepdim=True)
        asked = torch.cat([items, items[:, :1]], dim=1).scatter(1, lengths, self.catalogue_size)
        extended = torch.arange(asked.shape[1], device=items.device) <= lengths
        logits = last_states(self._encode(asked, extended, table_ND, first_place=0), extended) @ table_ND.T + self.bias
        return logits if self.penalty is None else self.penalty(logits, items, mask)

    def loss(self, items: Tensor, mask: Tensor, hold_out: int = 0, left_out: Tensor | None = None) -> MeanLoss:
        """Cross-entropy of hidden items; which ones is drawn with torch's global generator. See the base class."""
        table_ND, (mask, hidden) = self.item_vectors, self.hide(drop_last(mask, hold_out))
        asked = items.masked_fill(hidden, self.catalogue_size)
        states_PD, lowered = self._encode(asked, mask, table_ND, first_place=0)[hidden], None
        if self.penalty is not None:
            row = hidden.nonzero(as_tuple=True)[0]
            lowered = self.penalty.lowered(items[row], (mask & ~hidden)[row], len(table_ND))
        # The bias as one more column, beside a 1 in every state.
        states, table = pad(states_PD, (0, 1), value=1.0), torch.cat([table_ND, self.bias[:, None]], dim=1)
        return MeanLoss(catalogue_cross_entropy(states, table, items[hidden], lowered, left_out), len(states))

    def hide(self, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Draw what a training step reads and what it must guess.

        Args:
            mask: bool [B, S], the real items.

        Returns:
            Two masks [B, S]: the items that stay in the row, and the hidden ones among them, at least one of a row and never all of it.
            Rows of fewer than two items are left empty.
        """
        lengths = mask.sum(1, keepdim=True)
        mask = mask & (lengths > 1)
        draws = torch.rand(2, len(mask), 1, device=mask.device)
        last_only = draws[0] < self.last_share
        mask = drop_last(mask, torch.where(last_only, draws[1] * (lengths - 1), 0).long())
        last = mask & ~drop_last(mask, 1)
        hidden = mask & (torch.rand(mask.shape, device=mask.device) < self.hidden_share)
        useless = (hidden.sum(1, keepdim=True) == 0) | (hidden == mask).all(1, keepdim=True)
        return mask, torch.where(last_only | useless, last, hidden)

    def _encode(self, items: Tensor, mask: Tensor, table: Tensor, first_place: int) -> Tensor:
        """Return states [B, S, D]; the last real item of a row stands at `first_place`, the one before it at the next."""
        vectors = torch.cat([table, self.hidden])
        return encode_by_length(partial(self._encode_group, vectors=vectors, first_place=first_place), items, mask)

    def _encode_group(self, items: Tensor, mask: Tensor, vectors: Tensor, first_place: int) -> Tensor:
        from_end = mask.sum(1, keepdim=True) - 1 - torch.arange(items.shape[1], device=items.device) + first_place
        states: Tensor = self.dropout(self.norm(embedding(items, vectors) + self.positions(from_end.clamp(min=0))))
        for block in self.blocks:
            states = block(states, mask)
        return states
