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
    """A table of neighbours, fixed once it is made; `living_neighbours` goes on from it where items come and go.

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


def nearest(directions: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return neighbours int32 [R, K] and weights [R, K] of some rows among all unit vectors [N, H]."""
    cosines = directions[rows] @ directions.T
    cosines[torch.arange(len(rows), device=rows.device), rows] = -torch.inf
    nearest = cosines.topk(min(COUNT, len(directions)), dim=1)
    missing = (0, COUNT - nearest.values.shape[1])
    return pad(nearest.indices.int(), missing), pad(weights_of(nearest.values), missing)


def beside(items: Tensor, weights: Tensor, new: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    """Put those of new items beside the neighbours of some rows that would be among the K nearest of all.

    Args:
        items: their neighbours, int32 [R, W], W at least K.
        weights: of these, [R, W].
        new: int64 [n].
        near: weights that the new ones would have, [R, n].

    Returns:
        Their neighbours and weights, the nearest first and weights of 0 behind them.
    """
    farthest = torch.cat([weights, near], dim=1).topk(COUNT, dim=1).values[:, -1:]
    both, order = torch.cat([weights, torch.where(near >= farthest, near, 0.0)], dim=1).sort(dim=1, descending=True, stable=True)
    return torch.cat([items, new.int().expand(len(items), -1)], dim=1).gather(1, order), both


def _in_parts(rows: Tensor, width: int) -> tuple[Tensor, ...]:
    """Divide rows so that a part of them, times a width, is not more than may be held."""
    return tuple(rows.split(found_at_once(width)))


def weights_of(cosines: Tensor) -> Tensor:
    """Return how near vectors are that have these cosines."""
    return (SHARPNESS * (cosines - 1)).exp()
