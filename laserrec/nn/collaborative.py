"""What Laser sees of the frozen id-based recommender: states C_u for the M-Former (paper §3.2) and scores to fuse.

An id-based model knows nothing of an item it was not trained on. Such items are left out of the histories it reads, and their
collaborative score is that of their nearest known items by text, so that a new item can compete at once.

Dimensions: B batch, S history, W width of the states, N catalogue (known and new items).
"""

from __future__ import annotations

import torch
from torch import Tensor

from laserrec.nn.histories import recent
from laserrec.nn.sequential import SequentialRecommender

NEIGHBOURS = 5


class CollaborativeView:
    """A frozen sequential recommender over a catalogue that may grow beyond what it was trained on.

    Attributes:
        model: the recommender that gives the states, in evaluation mode, frozen.
        scorer: the recommender that gives the scores; the same one until `score_with` replaces it.
        known: True for the items that it was trained on, bool [N].
    """

    def __init__(self, model: SequentialRecommender, known: Tensor) -> None:
        """Freeze the model.

        Args:
            model: trained.
            known: bool [N]; items beyond the model's own catalogue must be False.
        """
        self.model = model.eval().requires_grad_(requires_grad=False)
        self.scorer = self.model
        self.known = known
        self.neighbours = torch.empty(0, NEIGHBOURS, dtype=torch.int64)

    def score_with(self, scorer: SequentialRecommender) -> None:
        """Take the scores from another recommender of the same catalogue: standardised scores stay comparable, states would not."""
        self.scorer = scorer.eval().requires_grad_(requires_grad=False)

    def extend(self, count: int) -> None:
        """Take `count` new items, which get the next indices."""
        self.known = torch.cat([self.known, torch.zeros(count, dtype=torch.bool)])

    @torch.no_grad()
    def states(self, items: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states [B, S', W] of each history's known items, and their mask bool [B, S']; S' is at least 1."""
        items, mask = self._readable(items, mask)
        return self.model.states(items, mask), mask

    @torch.no_grad()
    def scores(self, items: Tensor, mask: Tensor) -> Tensor:
        """Return standardised scores [B, N]: mean 0 and deviation 1 over the known items; all 0 for a history without known items."""
        items, mask = self._readable(items, mask)
        informed = mask.any(dim=1)
        known = self.known.nonzero()[:, 0]
        raw = self.scorer.scores(items, mask | ~informed[:, None])[:, known]
        raw = (raw - raw.mean(1, keepdim=True)) / raw.std(1, keepdim=True, correction=0).clamp(min=1e-6)
        scores = raw.new_zeros(len(items), len(self.known))
        scores[:, known] = raw
        if len(self.neighbours):
            scores[:, (~self.known).nonzero()[:, 0]] = scores[:, self.neighbours].mean(-1)
        return scores * informed[:, None]

    def place_new(self, directions: Tensor) -> None:
        """Find the nearest known items of every unknown one, by the unit vectors of their texts [N, H]."""
        known = self.known.nonzero()[:, 0]
        unknown = (~self.known).nonzero()[:, 0]
        count = min(NEIGHBOURS, len(known))
        nearest = (directions[unknown] @ directions[known].T).topk(count, dim=1).indices
        self.neighbours = known[nearest]

    def _readable(self, items: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        inside = items < len(self.known)
        mask = mask & inside & self.known[torch.where(inside, items, 0)]
        items, mask = recent(torch.where(mask, items, 0), mask, self.model.max_history)
        if items.shape[1] == 0:
            items, mask = items.new_zeros(len(items), 1), mask.new_zeros(len(items), 1)
        return items, mask
