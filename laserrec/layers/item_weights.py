"""Score items by fixed weights between them and those of a history, recent ones counting more.

    s(u, i) = asinh(Σ_h decay^age(h) · w(h, i) / floor),  0 for the history's own items

asinh is a logarithm far from 0, as `layers.neighbours` has it, and a line near 0, so weights may be negative; what is added up with
other scores should be like a logarithm of odds (docs/log.md).

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
        floor: a sum that counts as little.
    """

    weights: Tensor

    def __init__(self, weights: Tensor, floor: float) -> None:
        """Keep the weights."""
        super().__init__()
        self.floor = floor
        self.register_buffer("weights", weights)

    def scores(self, items: Tensor, mask: Tensor) -> Tensor:
        """Score every item after histories, int64 [B, S] under mask bool [B, S]: float [B, N]."""
        last, shares = fading(items, mask)
        sums = embedding_bag(last, self.weights, per_sample_weights=shares, mode="sum")
        return without_own(sums, items, mask).div_(self.floor).asinh_()


class SparseWeights(nn.Module):
    """Weights as a product of sparse matrices: 20 bytes a number that is not 0, all of which are read for a batch of histories.

    The product, float [N, N], has a row for each item that may follow.

    Attributes:
        floor: a sum that counts as little.
        decay: weight of an item relative to the next, more recent one.
    """

    def __init__(self, factors: Sequence[Tensor], floor: float, decay: float = DECAY) -> None:
        """Keep the factors, from the left."""
        super().__init__()
        self.floor, self.decay, self.count = floor, decay, len(factors)
        for number, factor in enumerate(factors):
            self.register_buffer(f"factor{number}", factor)

    @property
    def factors(self) -> list[Tensor]:
        """The factors, from the left."""
        return [self.get_buffer(f"factor{number}") for number in range(self.count)]

    def scores(self, items: Tensor, mask: Tensor) -> Tensor:
        """Score every item after histories, int64 [B, S] under mask bool [B, S]: float [B, N]."""
        last, shares = fading(items, mask, self.decay)
        sums = shares.new_zeros(len(items), self.factors[-1].shape[1]).scatter_add_(1, last, shares).T
        for factor in reversed(self.factors):
            sums = torch.sparse.mm(factor, sums)
        return without_own(sums.T.contiguous(), items, mask).div_(self.floor).asinh_()
