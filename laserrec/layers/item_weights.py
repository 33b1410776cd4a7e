"""Score items by fixed weights between them and those of a history, recent ones counting more as in `layers.neighbours`.

    s(u, i) = Σ_h decay^age(h) · w(h, i),  0 for the history's own items

Dimensions: B batch, S history, N catalogue. Knows nothing of where weights come from.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from laserrec.layers.neighbours import DECAY, fading, without_own


class ItemWeights(nn.Module):
    """A weight for each pair of items: 4 · N² bytes, of which a history reads ten rows.

    Attributes:
        weights: from an item of the history, the row, to one that may follow, float [N, N].
    """

    weights: Tensor

    def __init__(self, weights: Tensor) -> None:
        """Keep the weights."""
        super().__init__()
        self.register_buffer("weights", weights)

    def scores(self, items: Tensor, mask: Tensor) -> Tensor:
        """Score every item after histories, int64 [B, S] under mask bool [B, S]: float [B, N]."""
        last, shares = fading(items, mask)
        return without_own(embedding_bag(last, self.weights, per_sample_weights=shares, mode="sum"), items, mask)


class SparseWeights(nn.Module):
    """Weights as a product of sparse matrices: 20 bytes a number that is not 0, all of which are read for a batch of histories.

    The product, float [N, N], has a row for each item that may follow.

    Attributes:
        decay: weight of an item relative to the next, more recent one.
    """

    def __init__(self, factors: Sequence[Tensor], decay: float = DECAY) -> None:
        """Keep the factors, from the left."""
        super().__init__()
        self.decay, self.count = decay, len(factors)
        for number, factor in enumerate(factors):
            self.register_buffer(f"factor{number}", factor)

    @property
    def factors(self) -> list[Tensor]:
        """The factors, from the left."""
        return [self.get_buffer(f"factor{number}") for number in range(self.count)]

    def scores(self, items: Tensor, mask: Tensor) -> Tensor:
        """Score every item after histories, int64 [B, S] under mask bool [B, S]: float [B, N]."""
        last, shares = fading(items, mask, self.decay)
        found = shares.new_zeros(len(items), self.factors[-1].shape[1]).scatter_add_(1, last, shares).T
        for factor in reversed(self.factors):
            found = torch.sparse.mm(factor, found)
        return without_own(found.T.contiguous(), items, mask)
