"""Several recommenders of one catalogue as one: they err apart, so their mean ranks better than each."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from laserrec.nn.sequential import SequentialRecommender


class Ensemble(nn.Module):
    """Scores by the mean of its members' logits, which is the geometric mean of their distributions over the next item.

    Attributes:
        members: at least one; all of one catalogue and one longest history.
    """

    def __init__(self, members: Sequence[SequentialRecommender]) -> None:
        """Take trained members."""
        super().__init__()
        self.members = list(members)
        for number, member in enumerate(members):
            self.add_module(f"member{number}", member)
        self.max_history = members[0].max_history

    def scores(self, items: Tensor, mask: Tensor) -> Tensor:
        """Score every item as the next one of each history, [B, N]; arguments as in `SequentialRecommender.scores`."""
        first, *others = self.members
        total = first.scores(items, mask)
        for member in others:  # one by one: a long catalogue's scores are never held for all of them
            total = total + member.scores(items, mask)
        return total / len(self.members)
