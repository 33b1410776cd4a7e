"""What Laser sees of the frozen sequential recommender: states C_u for the M-Former (paper §3.2) and scores to fuse.

A sequential recommender knows nothing of a *cold* item, one it was not trained on. Such items are left out of the histories it reads, and
their collaborative score is the mean score of their nearest *warm* items by text and a *cold-start bonus*, so that a cold item can compete
at once: the mean of several scores is seldom as high as one of them can be.

Dimensions: B batch, S history, W width of the states, N catalogue (warm and cold items).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from laserrec.layers.histories import recent
from laserrec.sequential.base import SequentialRecommender
from laserrec.sequential.ensemble import Ensemble

NEAREST_WARM = 5
"""Warm items whose mean score a cold item gets."""
PLACED_AT_ONCE = 1024
"""Cold items that are compared with all warm ones at a time."""


class CollaborativeView:
    """A frozen sequential recommender over a catalogue that may hold items beyond those it was trained on; it never changes.

    Attributes:
        model: the recommender that gives the states, in evaluation mode, frozen.
        known: True for the items that the model was trained on, bool [N]: those whose states are read.
        scorer: the recommender, or ensemble, that gives the scores.
        scored: True for the warm items, those that the scorer was trained on, bool [N].
        nearest_warm: the nearest warm items, by text, of each cold one, int64 [n, 5 or fewer]; none until `placed`.
    """

    def __init__(
        self,
        model: SequentialRecommender,
        known: Tensor,
        scorer: SequentialRecommender | Ensemble | None = None,
        scored: Tensor | None = None,
        nearest_warm: Tensor | None = None,
    ) -> None:
        """Freeze the recommenders.

        Args:
            model: trained; its own items come first in the catalogue.
            known: bool [N]; items beyond the model's own must be False.
            scorer: trained on the same catalogue; the model when None.
            scored: bool [N]; `known` when None.
            nearest_warm: int64; none when None.
        """
        self.model = model.eval().requires_grad_(requires_grad=False)
        self.scorer = self.model if scorer is None else scorer.eval().requires_grad_(requires_grad=False)
        self.known = known.to(model.device)
        self.scored = self.known if scored is None else scored.to(model.device)
        self.nearest_warm = torch.empty(0, NEAREST_WARM, dtype=torch.int64, device=model.device) if nearest_warm is None else nearest_warm

    def _with(self, **changes: Any) -> CollaborativeView:  # noqa: ANN401 - arguments of any type
        return CollaborativeView(**vars(self) | changes)

    def score_with(self, scorer: SequentialRecommender | Ensemble, scored: Tensor) -> CollaborativeView:
        """Return a view whose scores come from other recommenders of the same catalogue, trained on the items `scored`, bool [N]."""
        return self._with(scorer=scorer, scored=scored, nearest_warm=None)

    def to(self, device: torch.device) -> CollaborativeView:
        """Return the view on a device; its recommenders are moved in place."""
        return self._with(model=self.model.to(device), scorer=self.scorer.to(device), nearest_warm=self.nearest_warm.to(device))

    def extended(self, count: int) -> CollaborativeView:
        """Return a view with `count` more cold items, which get the next indices and no nearest warm items until `placed`."""
        known, scored = (pad(mask, (0, count)) for mask in (self.known, self.scored))
        nearest = pad(self.nearest_warm, (0, 0, 0, count)) if len(self.nearest_warm) else self.nearest_warm
        return self._with(known=known, scored=scored, nearest_warm=nearest)

    def take(self, order: Tensor) -> CollaborativeView:
        """Return a view of those of the items that `order` names by index, int64 [n]; the model's own must stay at their places."""
        nearest = self.nearest_warm
        if len(nearest):
            nearest = nearest[((~self.scored).cumsum(0) - 1)[order[~self.scored[order]]]]
        return self._with(known=self.known[order], scored=self.scored[order], nearest_warm=nearest)

    def without(self, items: Tensor) -> CollaborativeView:
        """Return a view of the same recommenders in which warm items, int64 [n], are cold; nobody is `placed`."""
        return self._with(scored=self.scored.index_fill(0, items, False), nearest_warm=None)

    def placed(self, cosines: Callable[[Tensor], Tensor], rows: Tensor | None = None, live: Tensor | None = None) -> CollaborativeView:
        """Return a view that knows the nearest warm items of cold ones, by text.

        Args:
            cosines: gives those of some items' texts, int64 [n], with all N; asked only where there is an item to place.
            rows: the items to place, int64 [n], where the others keep the nearest ones that they have; all cold ones when None.
            live: False for items that must be nobody's nearest, bool [N].
        """
        cold = ~self.scored
        warm = (self.scored if live is None else self.scored & live).nonzero()[:, 0]
        count = min(NEAREST_WARM, len(warm))
        if not count or not bool(cold.any()):
            return self._with(nearest_warm=None)
        if rows is None or self.nearest_warm.shape != (int(cold.sum()), count):
            others = cold.nonzero()[:, 0]
            return self._with(nearest_warm=_nearest(cosines, others, warm, count))
        others = rows[cold[rows]]
        if not len(others):
            return self
        place = (cold.cumsum(0) - 1)[others]
        return self._with(nearest_warm=self.nearest_warm.index_copy(0, place, _nearest(cosines, others, warm, count)))

    @torch.no_grad()
    def states(self, items: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states [B, S', W] of each history's known items, and their mask bool [B, S']; S' is at least 1."""
        items, mask = self.readable(items, mask)
        return self.model.states(items, mask), mask

    def readable(self, items: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the items of each history whose states are read, int64 [B, S'], and their mask bool [B, S']."""
        return _readable(items, mask, self.known, self.model.max_history)

    def informed(self, items: Tensor, mask: Tensor) -> Tensor:
        """Tell which histories, int64 [B, S] under mask bool [B, S], hold a warm item, bool [B]."""
        return _readable(items, mask, self.scored, self.scorer.max_history)[1].any(dim=1)

    def gets_bonus(self, items: Tensor, mask: Tensor, asked: Tensor) -> Tensor:
        """Return which `scores` of some items, int64 [A], hold the cold-start bonus, bool [B, A]."""
        placed = ~self.scored[asked] if len(self.nearest_warm) else torch.zeros_like(asked, dtype=torch.bool)
        return self.informed(items, mask)[:, None] & placed

    @torch.no_grad()
    def scores(self, items: Tensor, mask: Tensor, bonus: Tensor | float = 0.0) -> Tensor:
        """Return standardised scores [B, N]: mean 0 and deviation 1 over the warm items; all 0 for a history without any of them.

        Args:
            items: int64 [B, S].
            mask: bool [B, S].
            bonus: what a cold item gets beyond the mean of its nearest warm ones, in standard deviations.
        """
        items, mask = _readable(items, mask, self.scored, self.scorer.max_history)
        informed = mask.any(dim=1)
        raw = self.scorer.scores(items, mask | ~informed[:, None])[:, : len(self.scored)]
        # Masked products instead of picking the warm items out: a catalogue is read in order, never gathered.
        scored = self.scored[: raw.shape[1]].to(raw.dtype)
        count = scored.sum().clamp(min=1)
        centred = (raw - (raw @ scored)[:, None] / count) * scored
        deviation = (centred.square().sum(1, keepdim=True) / count).sqrt().clamp(min=1e-6)
        scores = pad(centred * (informed[:, None] / deviation), (0, len(self.scored) - raw.shape[1]))
        if len(self.nearest_warm):
            scores[:, (~self.scored).nonzero()[:, 0]] = scores[:, self.nearest_warm].mean(-1) + bonus * informed[:, None]
        return scores


def _nearest(cosines: Callable[[Tensor], Tensor], others: Tensor, warm: Tensor, count: int) -> Tensor:
    """Return the `count` nearest warm items of others, int64 [n, count]."""
    # In parts, so that a large catalogue's similarities are never held at once; cosines are gathered, since directions would be a copy.
    parts = [cosines(part)[:, warm].topk(count, dim=1).indices for part in others.split(PLACED_AT_ONCE)]
    return warm[torch.cat(parts)]


def _readable(items: Tensor, mask: Tensor, known: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Keep the last `limit` known items of each history; at least one place, so that an empty history has a shape."""
    inside = items < len(known)
    mask = mask & inside & known[torch.where(inside, items, 0)]
    items, mask = recent(torch.where(mask, items, 0), mask, limit)
    if items.shape[1] == 0:
        return items.new_zeros(len(items), 1), mask.new_zeros(len(items), 1)
    return items, mask
