"""Score items by how near they are to those of a history, recent ones counting more, from a table of each item's neighbours.

    n(u, i) = log(1 + Σ_h DECAY^age(h) · w(h, i) / floor),  0 for the history's own items

One shape for two kinds of nearness: how often items share users (`training.neighbours`), and how near their texts are.

Dimensions: B batch, S history, N catalogue, K neighbours, H width of the vectors. Knows nothing of files, texts or training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from laserrec.layers.histories import recent

COUNT = 100
"""K; an item with fewer has weights of 0 for the rest."""
HISTORY = 10
"""Most recent items that count."""
DECAY = 0.85
"""Weight of an item relative to the next, more recent one."""
SHARPNESS = 10.0
"""Vectors with cosine c have the weight exp(SHARPNESS · (c − 1))."""
EVENTS_FLOOR = 0.02
"""Nearness by events, counted or by EASE's weights, that counts as none: two rare items with one common user have about 0.1."""
HELD = 2**25
"""Cosines held at a time while neighbours are found: 128 MiB in float32."""


class Neighbours(nn.Module):
    """A table of neighbours, fixed once it is made.

    Attributes:
        items: int32 [N, K], wider once there are items that came later.
        weights: float, as wide, not below 0; 0 for a place that is free.
    """

    items: Tensor
    weights: Tensor

    def __init__(self, count: int, floor: float, width: int = COUNT) -> None:
        """Make room for a catalogue's neighbours.

        Args:
            count: N.
            floor: nearness that counts as none.
            width: places of a row.
        """
        super().__init__()
        self.floor = floor
        self.register_buffer("items", torch.zeros(count, width, dtype=torch.int32))
        self.register_buffer("weights", torch.zeros(count, width))

    def scores(self, items: Tensor, mask: Tensor) -> Tensor:
        """Score every item after histories, int64 [B, S] under mask bool [B, S]: [B, N], 0 where nothing is near.

        Items beyond the table are left out.
        """
        count = len(self.items)
        mask = mask & (items < count)
        last, shares = fading(torch.where(mask, items, 0), mask)
        near = (self.weights[last] * shares[..., None]).flatten(1)
        scores = near.new_zeros(len(items), count).scatter_add_(1, self.items[last].long().flatten(1), near)
        return without_own(scores, items, mask).div_(self.floor).log1p_()

    @torch.no_grad()
    def find(self, directions: Tensor) -> None:
        """Fill the table with every item's nearest others by unit vectors [N, H]."""
        rows = torch.arange(len(directions), device=directions.device)
        parts = [nearest(directions, part) for part in _in_parts(rows, len(directions))]
        self.items, self.weights = (torch.cat(part) for part in zip(*parts, strict=True))

    @torch.no_grad()
    def placed(self, directions: Tensor, rows: Tensor, live: Tensor) -> Neighbours:
        """Return a table in which some items, new or changed ones, have found their places; nobody else's nearness to anybody changes.

        Such an item gets its nearest others, and becomes a neighbour of all in whose K nearest it would be. There it stands beside those
        that are there already, so a row may grow longer than K.

        Args:
            directions: unit vectors of all items [N, H], of which this table has the first ones or all.
            rows: the new and changed items, int64 [n].
            live: False for items that are nobody's neighbours, bool [N].
        """
        known, count = len(self.items), len(directions)
        items, weights = (pad(part, (0, 0, 0, count - known)).clone() for part in (self.items, self.weights))
        changed = torch.zeros_like(live).index_fill_(0, rows, value=True)
        if bool(changed[:known].any()):  # what they were to others is forgotten
            weights.masked_fill_(changed[items], 0.0)
        found = [(part, *nearest(directions, part, live)) for part in _in_parts(rows, count)]
        others, step = live & ~changed, found_at_once(items.shape[1] + len(rows))
        for start in range(0, count, step) if len(rows) else ():
            # A slice, then those that count: to gather directions would copy the catalogue.
            inside = others[start : start + step].nonzero()[:, 0]
            part = inside + start
            near, old = _weights((directions[start : start + step] @ directions[rows].T)[inside]), weights[part]
            farthest = old.amin(1) if old.shape[1] == COUNT else old.topk(COUNT, dim=1).values[:, -1]
            reached = (near.amax(1) >= farthest).nonzero()[:, 0]
            if len(reached):
                found.append(_beside(part[reached], items[part[reached]], old[reached], rows, near[reached]))
        width = max([items.shape[1], *(part.shape[1] for _, part, _ in found)])
        items, weights = (pad(part, (0, width - part.shape[1])) for part in (items, weights))
        for where, names, nearness in found:
            items[where], weights[where] = (pad(part, (0, width - part.shape[1])) for part in (names, nearness))
        return self._of(items, weights)

    @torch.no_grad()
    def take(self, order: Tensor, live: Tensor) -> Neighbours:
        """Return the table of those of the items that `order` names, int64 [n], in which only live ones, bool [n], are near to anybody."""
        place = order.new_full((len(self.items),), -1)
        place[order[live]] = live.nonzero()[:, 0]
        items = place[self.items[order]]
        return self._of(items.clamp(min=0).int(), self.weights[order].masked_fill((items < 0) | ~live[:, None], 0.0))

    def _of(self, items: Tensor, weights: Tensor) -> Neighbours:
        table = Neighbours(0, self.floor)
        table.items, table.weights = items, weights
        return table


def fading(items: Tensor, mask: Tensor, decay: float = DECAY) -> tuple[Tensor, Tensor]:
    """Return the last `HISTORY` items of histories, int64 [B, S] under mask bool [B, S], and how much each counts, float [B, HISTORY]."""
    last, real = recent(items, mask, HISTORY)
    age = real.sum(1, keepdim=True) - 1 - torch.arange(last.shape[1], device=last.device)
    return last, torch.where(real, decay ** age.clamp(min=0), 0.0)


def without_own(scores: Tensor, items: Tensor, mask: Tensor) -> Tensor:
    """Set the scores [B, N] of the items of each history, int64 [B, S] under mask bool [B, S], to 0 in place."""
    row, place = mask.nonzero(as_tuple=True)
    scores[row, items[row, place]] = 0
    return scores


def found_at_once(count: int) -> int:
    """Return the number of items whose neighbours are found at a time in a catalogue of `count`."""
    return max(1, HELD // max(count, 1))


def nearest(directions: Tensor, rows: Tensor, live: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return neighbours int32 [R, K] and weights [R, K] of some rows among all unit vectors [N, H], or among the live ones, bool [N]."""
    cosines = directions[rows] @ directions.T
    if live is not None:
        cosines.masked_fill_(~live, -torch.inf)
    cosines[torch.arange(len(rows), device=rows.device), rows] = -torch.inf
    nearest = cosines.topk(min(COUNT, len(directions)), dim=1)
    missing = (0, COUNT - nearest.values.shape[1])
    return pad(nearest.indices.int(), missing), pad(_weights(nearest.values), missing)


def _beside(where: Tensor, items: Tensor, weights: Tensor, new: Tensor, near: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Put those of new items beside the neighbours of some rows that would be among the K nearest of all.

    Args:
        where: the rows, int64 [R].
        items: their neighbours, int32 [R, W].
        weights: of these, [R, W].
        new: int64 [n].
        near: weights that the new ones would have, [R, n].

    Returns:
        The rows, their neighbours and their weights, the nearest first.
    """
    farthest = torch.cat([weights, near], dim=1).topk(COUNT, dim=1).values[:, -1:]
    both, order = torch.cat([weights, torch.where(near >= farthest, near, 0.0)], dim=1).sort(dim=1, descending=True, stable=True)
    width = max(COUNT, int((both > 0).sum(1).max()))
    names = torch.cat([items, new.int().expand(len(where), -1)], dim=1).gather(1, order)
    return where, names[:, :width], both[:, :width]


def _in_parts(rows: Tensor, width: int) -> tuple[Tensor, ...]:
    """Divide rows so that a part of them, times a width, is not more than may be held."""
    return tuple(rows.split(found_at_once(width)))


def _weights(cosines: Tensor) -> Tensor:
    return (SHARPNESS * (cosines - 1)).exp()
