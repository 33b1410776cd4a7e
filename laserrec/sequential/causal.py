"""What SASRec, GRU4Rec and FDSA share: a state sees its own item and those before it, and every item is predicted from those before it.

Departure from their papers: cross-entropy over the whole catalogue at every position instead of sampled negatives; item embeddings are
tied with the output; optionally a trained penalty on items of the history. Knows nothing of training loops.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import embedding

from laserrec.sequential.base import MeanLoss, SeenPenalty, SequentialRecommender, drop_last, encode_by_length, last_states
from laserrec.sequential.cross_entropy import catalogue_cross_entropy


class CausalRecommender(SequentialRecommender):
    """Predicts each item of a history from those before it; a subclass says how histories are encoded."""

    def __init__(self, *, catalogue_size: int, width: int, max_history: int, seen_penalty: bool) -> None:
        """Build what all have.

        Args:
            catalogue_size: N, items that can be scored.
            width: width of embeddings and states.
            max_history: longest history.
            seen_penalty: train a δ that is taken from the scores of items in the history.
        """
        super().__init__(catalogue_size=catalogue_size, width=width, max_history=max_history)
        self.penalty = SeenPenalty() if seen_penalty else None

    @abstractmethod
    def encode(self, vectors: Tensor, mask: Tensor) -> Tensor:
        """Encode histories of similar length, item vectors [B, S, D] under mask bool [B, S]: states [B, S, D], those of padding anything.

        Padding stands on the right, so whoever looks back only never sees it.
        """

    def states(self, items: Tensor, mask: Tensor) -> Tensor:
        """Encode histories; a state sees its own item and those before it. See the base class."""
        return self._states(items, mask, self.item_vectors)

    def scores(self, items: Tensor, mask: Tensor) -> Tensor:
        """Score every item as the next one. See the base class."""
        table_ND = self.item_vectors
        logits = last_states(self._states(items, mask, table_ND), mask) @ table_ND.T
        return logits if self.penalty is None else self.penalty(logits, items, mask)

    def loss(self, items: Tensor, mask: Tensor, hold_out: int = 0, left_out: Tensor | None = None) -> MeanLoss:
        """Cross-entropy of every item after the first, given those before it. See the base class."""
        table_ND, mask = self.item_vectors, drop_last(mask, hold_out)
        predicted = mask[:, 1:]
        longest = int(predicted.sum(1).max()) if predicted.numel() else 0
        predicted, inputs, targets = predicted[:, :longest], items[:, :longest], items[:, 1 : longest + 1]
        states_PD, lowered = self._states(inputs, predicted, table_ND)[predicted], None
        if self.penalty is not None:
            row, place = predicted.nonzero(as_tuple=True)
            before_PS = torch.arange(longest, device=items.device) <= place[:, None]
            lowered = self.penalty.lowered(inputs[row], before_PS, len(table_ND))
        return MeanLoss(catalogue_cross_entropy(states_PD, table_ND, targets[predicted], lowered, left_out), len(states_PD))

    def _states(self, items: Tensor, mask: Tensor, table: Tensor) -> Tensor:
        self.check_length(items)
        return encode_by_length(partial(self._encode_items, table=table), items, mask)

    def _encode_items(self, items: Tensor, mask: Tensor, table: Tensor) -> Tensor:
        return self.encode(embedding(items, table), mask)
