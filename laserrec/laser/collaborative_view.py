"""What Laser sees of the frozen id-based recommender: states C_u for the M-Former (paper §3.2) and scores to fuse.

An id-based model knows nothing of an item it was not trained on. Such items are left out of the histories it reads, and their
collaborative score is that of their nearest known items by text and a *lift*, so that a new item can compete at once: the mean of several
scores is seldom as high as one of them can be.

Dimensions: B batch, S history, W width of the states, N catalogue (known and new items).
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from laserrec.layers.histories import recent
from laserrec.sequential.base import SequentialRecommender
from laserrec.sequential.ensemble import Ensemble

STAND_INS = 5
"""Scored items whose mean score an item gets that the scorer was not trained on."""
PLACED_AT_ONCE = 1024


class CollaborativeView:
    """A frozen sequential recommender over a catalogue that may grow beyond what it was trained on.

    Attributes:
        model: the recommender that gives the states, in evaluation mode, frozen.
        scorer: the recommender that gives the scores; the same one until `score_with` replaces it.
        known: True for the items that the model was trained on, bool [N]: those whose states are read.
        scored: True for the items that the scorer was trained on, bool [N].
        stand_ins: the nearest scored items, by text, of each one that is not scored, int64 [n, 5 or fewer]; none until `place_new`.
    """

    def __init__(self, model: SequentialRecommender, known: Tensor) -> None:
        """Freeze the model.

        Args:
            model: trained.
            known: bool [N]; items beyond the model's own catalogue must be False.
        """
        self.model = model.eval().requires_grad_(requires_grad=False)
        self.scorer: SequentialRecommender | Ensemble = self.model
        self.known = self.scored = known.to(model.device)
        self.stand_ins = torch.empty(0, STAND_INS, dtype=torch.int64)

    def score_with(self, scorer: SequentialRecommender | Ensemble, scored: Tensor) -> None:
        """Take the scores from other recommenders of the same catalogue: standardised scores stay comparable, states would not.

        Args:
            scorer: trained.
            scored: the items that it was trained on, bool [N].
        """
        self.scorer = scorer.eval().requires_grad_(requires_grad=False)
        self.scored = scored.to(self.known.device)

    def to(self, device: torch.device) -> CollaborativeView:
        """Move to a device, in place."""
        self.model, self.scorer = self.model.to(device), self.scorer.to(device)
        self.known, self.scored, self.stand_ins = (part.to(device) for part in (self.known, self.scored, self.stand_ins))
        return self

    def extend(self, count: int) -> None:
        """Take `count` new items, which get the next indices."""
        new = self.known.new_zeros(count)
        self.known, self.scored = torch.cat([self.known, new]), torch.cat([self.scored, new])

    def shrink(self, count: int) -> None:
        """Forget the last `count` items."""
        kept = len(self.known) - count
        self.known, self.scored = self.known[:kept], self.scored[:kept]

    @torch.no_grad()
    def states(self, items: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states [B, S', W] of each history's known items, and their mask bool [B, S']; S' is at least 1."""
        items, mask = _readable(items, mask, self.known, self.model.max_history)
        return self.model.states(items, mask), mask

    def without(self, items: Tensor) -> CollaborativeView:
        """Return a view of the same recommenders to which scored items, int64 [n], are new; they have no stand-ins until `place_new`."""
        view = copy.copy(self)
        view.scored = self.scored.index_fill(0, items, False)
        return view

    def informed(self, items: Tensor, mask: Tensor) -> Tensor:
        """Tell which histories, int64 [B, S] under mask bool [B, S], hold a scored item, bool [B]."""
        return _readable(items, mask, self.scored, self.scorer.max_history)[1].any(dim=1)

    @torch.no_grad()
    def scores(self, items: Tensor, mask: Tensor, lift: Tensor | float = 0.0) -> Tensor:
        """Return standardised scores [B, N]: mean 0 and deviation 1 over the scored items; all 0 for a history without any of them.

        Args:
            items: int64 [B, S].
            mask: bool [B, S].
            lift: what an item that is not scored has beyond the mean of its stand-ins, in deviations.
        """
        items, mask = _readable(items, mask, self.scored, self.scorer.max_history)
        informed = mask.any(dim=1)
        raw = self.scorer.scores(items, mask | ~informed[:, None])[:, : len(self.scored)]
        # Masked products in the place of picking the scored items out: a catalogue is read in order, never gathered.
        scored = self.scored[: raw.shape[1]].to(raw.dtype)
        count = scored.sum().clamp(min=1)
        centred = (raw - (raw @ scored)[:, None] / count) * scored
        deviation = (centred.square().sum(1, keepdim=True) / count).sqrt().clamp(min=1e-6)
        scores = pad(centred * (informed[:, None] / deviation), (0, len(self.scored) - raw.shape[1]))
        if len(self.stand_ins):
            scores[:, (~self.scored).nonzero()[:, 0]] = scores[:, self.stand_ins].mean(-1) + lift * informed[:, None]
        return scores

    def place_new(self, directions: Callable[[], Tensor]) -> None:
        """Find stand-ins for every item that is not scored: its nearest scored ones by text.

        Args:
            directions: gives the unit vectors of the items' texts [N, H]; asked only where there is an item to place.
        """
        places, others = self.scored.nonzero()[:, 0], (~self.scored).nonzero()[:, 0]
        count = min(STAND_INS, len(places))
        if not count or not len(others):
            self.stand_ins = torch.empty(0, STAND_INS, dtype=torch.int64)
            return
        vectors = directions()
        candidates = vectors[places].T
        # In parts, so that a large catalogue's similarities are never held at once.
        parts = [(part @ candidates).topk(count, dim=1).indices for part in vectors[others].split(PLACED_AT_ONCE)]
        self.stand_ins = places[torch.cat(parts)]


def _readable(items: Tensor, mask: Tensor, known: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Keep the last `limit` known items of each history; at least one place, so that an empty history has a shape."""
    inside = items < len(known)
    mask = mask & inside & known[torch.where(inside, items, 0)]
    items, mask = recent(torch.where(mask, items, 0), mask, limit)
    if items.shape[1] == 0:
        return items.new_zeros(len(items), 1), mask.new_zeros(len(items), 1)
    return items, mask
