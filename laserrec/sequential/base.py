"""What every sequential recommender offers to training, ranking and Laser.

Knows nothing of texts, files or training loops. Item indices are 0 … N-1, padded on the right; `mask` is True where an item is real.
Legend: B batch, S history, D width, N catalogue, P positions that are predicted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from laserrec.layers.histories import distinct, lower_seen
from laserrec.sequential.cross_entropy import Lowered
from laserrec.sequential.item_table import FeatureTable, TextTable

GROUPS = 4
"""Groups of similar length that a batch is encoded in; on CUDA it is one, for there launches cost more than padding."""


class MeanLoss(NamedTuple):
    """A loss, and over how many positions it is a mean.

    Attributes:
        mean: a scalar.
        positions: P.
    """

    mean: Tensor
    positions: int


class SequentialRecommender(nn.Module, ABC):
    """Scores the whole catalogue after a history of item indices.

    Attributes:
        catalogue_size: N.
        width: D, width of states and item vectors.
        max_history: longest history it reads; callers cut longer ones to the most recent items.
        items: holds the item vectors as its `weight` [N, D]: embeddings, or made from texts.
    """

    items: nn.Embedding | TextTable | FeatureTable

    def __init__(self, *, catalogue_size: int, width: int, max_history: int) -> None:
        """Record the sizes; items start as embeddings."""
        super().__init__()
        self.catalogue_size, self.width, self.max_history = catalogue_size, width, max_history
        self.items = nn.Embedding(catalogue_size, width)

    @property
    def device(self) -> torch.device:
        """Where the weights lie, and histories must."""
        return next(self.parameters()).device

    @property
    def item_vectors(self) -> Tensor:
        """What a state is compared with to score items, float [N, D]."""
        return self.items.weight

    @torch.no_grad()
    def fix_items(self) -> None:
        """Replace what is made from texts, item vectors here, by embeddings equal to it."""
        self.items = nn.Embedding.from_pretrained(self.item_vectors.clone(), freeze=False)

    @abstractmethod
    def states(self, items: Tensor, mask: Tensor) -> Tensor:
        """Encode histories, one collaborative state an item (C_u of paper §3.2).

        Args:
            items: int64 [B, S], S ≤ max_history.
            mask: bool [B, S], True where an item is real.

        Returns:
            float [B, S, D], zeros where the mask is False.
        """

    @abstractmethod
    def scores(self, items: Tensor, mask: Tensor) -> Tensor:
        """Score every item as the next one of each history.

        Args:
            items: int64 [B, S], S ≤ max_history.
            mask: bool [B, S], with at least one item in each row.

        Returns:
            float [B, N].
        """

    @abstractmethod
    def loss(self, items: Tensor, mask: Tensor, hold_out: int = 0, left_out: Tensor | None = None) -> MeanLoss:
        """Mean cross-entropy over the whole catalogue of the positions that the model learns from.

        Args:
            items: int64 [B, S], S ≤ max_history + 1 + hold_out.
            mask: bool [B, S].
            hold_out: items at each row's end that the model neither predicts nor reads.
            left_out: items that are no wrong answers, int64; they may not be in what is predicted.

        Returns:
            The mean, 0 with gradients of 0 where no row is long enough to learn from, and the number of positions.
        """

    def check_length(self, items: Tensor) -> None:
        """Refuse histories longer than the model has positions for."""
        if items.shape[1] > self.max_history:
            raise ValueError(f"Received histories of {items.shape[1]} items; at most {self.max_history} fit. Cut them with Ragged.tails.")


class SeenPenalty(nn.Module):
    """Lowers the scores of items that a history holds by a trained δ, for people seldom take again what they took before.

    The output of a model with tied embeddings resembles its input, so what was just seen scores high by construction.
    """

    def __init__(self, start: float = 3.0) -> None:
        """Begin with δ = `start`."""
        super().__init__()
        # Adam moves a parameter by about the learning rate a step; stored divided, the scalar follows ten times faster.
        self.scaled = nn.Parameter(torch.tensor(start / 10))

    @property
    def strength(self) -> Tensor:
        """δ, in units of the logits."""
        return self.scaled * 10

    def forward(self, logits: Tensor, items: Tensor, mask: Tensor) -> Tensor:
        """Return the logits [P, N], lower by δ at the items [P, S] where `mask` [P, S] is True; they are changed in place."""
        return lower_seen(logits, items, mask, self.strength)

    def lowered(self, items: Tensor, mask: Tensor, count: int) -> Lowered:
        """Return which of `count` logits a row are lower, and by how much; arguments as in `forward`, items below `count`."""
        return Lowered(*distinct(items, mask, count), self.strength)


def encode_by_length(encode: Callable[[Tensor, Tensor], Tensor], items: Tensor, mask: Tensor) -> Tensor:
    """Encode rows in groups of similar length, so that little padding is computed: in training, two to three times faster.

    Args:
        encode: items [B', S'] and mask [B', S'] to states [B', S', D]; padding must not change a row's states.
        items: int64 [B, S].
        mask: bool [B, S].

    Returns:
        float [B, S, D], zeros where the mask is False.
    """
    lengths = mask.sum(1)
    order = lengths.argsort(stable=True)
    parts = []
    for rows in order.chunk(1 if items.device.type == "cuda" or len(items) < 4 * GROUPS else GROUPS):
        longest = min(max(1, int(lengths[rows].max())), items.shape[1])
        real = mask[rows, :longest]
        # Chosen, not multiplied by zero: what a row without any item attends to is NaN on some devices.
        states = torch.where(real[..., None], encode(items[rows, :longest], real), 0.0)
        parts.append(pad(states, (0, 0, 0, items.shape[1] - longest)))
    return torch.cat(parts)[order.argsort()]


def drop_last(mask: Tensor, count: int | Tensor) -> Tensor:
    """Return the mask without the last `count` real items of each row, int or int64 [B, 1]; rows are padded on the right."""
    positions = torch.arange(mask.shape[1], device=mask.device)
    return positions < (mask.sum(1, keepdim=True) - count)


def last_states(states: Tensor, mask: Tensor) -> Tensor:
    """Return the state [B, D] of each row's last real item."""
    last = (mask.sum(1) - 1).clamp(min=0)
    return states[torch.arange(len(states), device=states.device), last]
