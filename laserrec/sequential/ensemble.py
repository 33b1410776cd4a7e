"""Several recommenders of one catalogue as one: they err apart, so together they rank better than each.

Dimensions: B batch, S history, N catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from laserrec.layers.neighbours import Neighbours
from laserrec.sequential.base import SequentialRecommender


class Ensemble(nn.Module):
    """Scores by the mean of its members' logits, the geometric mean of their distributions, and by tables of neighbours.

    Attributes:
        members: at least one; all of one catalogue and one longest history.
        neighbours: items that were taken together, counted; None for none.
        ease: items that EASE predicts from each other; None for none.
        shares: weights of the members' mean, of the neighbours' score and of EASE's, float [3].
    """

    shares: Tensor

    def __init__(
        self, members: Sequence[SequentialRecommender], neighbours: Neighbours | None = None, ease: Neighbours | None = None
    ) -> None:
        """Take trained members, and tables that weigh nothing until `shares` says otherwise."""
        super().__init__()
        self.members, self.neighbours, self.ease = list(members), neighbours, ease
        for number, member in enumerate(members):
            self.add_module(f"member{number}", member)
        self.max_history = members[0].max_history
        self.register_buffer("shares", torch.tensor([1.0, 0.0, 0.0]))

    def scores(self, items: Tensor, mask: Tensor) -> Tensor:
        """Score every item as the next one of each history, [B, N]; arguments as in `SequentialRecommender.scores`."""
        total = self.shares[0] * self.mean(items, mask)
        for place, table in self.tables.items():
            total = torch.addcmul(total, self.shares[place], table.scores(items, mask))
        return total

    @property
    def tables(self) -> dict[int, Neighbours]:
        """The tables that there are, by the place of their share."""
        return {place: table for place, table in ((1, self.neighbours), (2, self.ease)) if table is not None}

    def mean(self, items: Tensor, mask: Tensor) -> Tensor:
        """Return the mean of the members' logits, [B, N]."""
        first, *others = self.members
        total = first.scores(items, mask)
        for member in others:  # one by one: a long catalogue's scores are never held for all of them
            total = total + member.scores(items, mask)
        return total / len(self.members)
