"""A part of a long catalogue that stands for all of it in a softmax, so that a few numbers can be fitted on many cases.

Dimensions: N catalogue, n candidates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

OTHERS = 10_000
"""Items beside those that are needed; where there are more, so many are drawn for all of them."""


@dataclass(frozen=True)
class Candidates:
    """Items that a softmax is over.

    Attributes:
        items: int64 [n], each once.
        stands_for: log of how many items each stands for, float [n]; to be added to its logit.
        places: where each item of the catalogue stands among the candidates, int64 [N]; n where it does not.
    """

    items: Tensor
    stands_for: Tensor
    places: Tensor

    @classmethod
    def draw(cls, count: int, needed: Tensor, left_out: Tensor | None, generator: torch.Generator) -> Candidates:
        """Take the items that are needed, and some of the others for all of them.

        Args:
            count: N.
            needed: items that stand for themselves, int64; those beyond the catalogue are none.
            left_out: items that are no candidates unless they are needed, int64.
            generator: on the CPU, of the draw.
        """
        needed = needed[needed < count].unique()
        free = torch.ones(count, dtype=torch.bool, device=needed.device)
        free[needed] = False
        if left_out is not None:
            free[left_out] = False
        others = free.nonzero()[:, 0]
        there = len(others)
        if there > OTHERS:
            drawn = torch.randperm(there, generator=generator)[:OTHERS].sort().values
            others = others[drawn.to(others.device)]
        items = torch.cat([needed, others])
        stands_for = torch.zeros(len(items), device=items.device)
        stands_for[len(needed) :] = math.log(max(there, 1) / max(len(others), 1))
        places = items.new_full((count,), len(items)).index_copy_(0, items, torch.arange(len(items), device=items.device))
        return cls(items, stands_for, places)

    def find(self, items: Tensor) -> Tensor:
        """Return where items, int64 of any shape, stand among the candidates; n for those that do not, or are beyond the catalogue."""
        inside = items < len(self.places)
        return torch.where(inside, self.places[torch.where(inside, items, 0)], len(self.items))
