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
"""Nearness by events that counts as none: two rare items with one common user have about 0.1."""
HELD = 2**25
"""Cosines held at a time while neighbours are found: 128 MiB in float32."""


class Neighbours(nn.Module):
    """A table of neighbours, fixed once it is made.

    Attributes:
        items: int32 [N, K].
        weights: float [N, K], not below 0.
    """

    items: Tensor
    weights: Tensor

    def __init__(self, count: int, floor: float) -> None:
        """Make room for a catalogue's neighbours.

        Args:
            count: N.
            floor: nearness that counts as none.
        """
        super().__init__()
        self.floor = floor
        self.register_buffer("items", torch.zeros(count, COUNT, dtype=torch.int32))
        self.register_buffer("weights", torch.zeros(count, COUNT))

    def scores(self, items: Tensor, mask: Tensor) -> Tensor:
        """Score every item after histories, int64 [B, S] under mask bool [B, S]: [B, N], 0 where nothing is near.

        Items beyond the table are left out.
        """
        count = len(self.items)
        mask = mask & (items < count)
        row, place = mask.nonzero(as_tuple=True)
        last, real = recent(torch.where(mask, items, 0), mask, HISTORY)
        age = real.sum(1, keepdim=True) - 1 - torch.arange(last.shape[1], device=last.device)
        shares = torch.where(real, DECAY ** age.clamp(min=0), 0.0)
        near = (self.weights[last] * shares[..., None]).flatten(1)
        scores = near.new_zeros(len(items), count).scatter_add_(1, self.items[last].long().flatten(1), near)
        scores[row, items[row, place]] = 0
        return scores.div_(self.floor).log1p_()

    @torch.no_grad()
    def find(self, directions: Tensor) -> None:
        """Fill the table with every item's nearest others by unit vectors [N, H]."""
        rows = torch.arange(len(directions), device=directions.device)
        parts = [nearest(directions, part) for part in _in_parts(rows, len(directions))]
        self.items, self.weights = (torch.cat(part) for part in zip(*parts, strict=True))

    @torch.no_grad()
    def extended(self, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the table, items and weights, with those that it lacks of all unit vectors [N + n, H].

        New items get neighbours, and become neighbours of those that they are nearest to. Where none is as near as the farthest neighbour,
        a row stays as it is.
        """
        known = len(self.items)
        new = torch.arange(known, len(directions), device=directions.device)
        found = [nearest(directions, rows) for rows in _in_parts(new, len(directions))]
        items, weights = torch.cat([self.items, *(part[0] for part in found)]), torch.cat([self.weights, *(part[1] for part in found)])
        tables = (_in_parts(table[:known], COUNT + len(new)) for table in (directions, items, weights))
        for vectors, others, nearness in zip(*tables, strict=True) if len(new) else ():
            near = _weights(vectors @ directions[known:].T)
            rows = (near.amax(1) >= nearness.amin(1)).nonzero()[:, 0]
            nearness[rows], places = torch.cat([nearness[rows], near[rows]], dim=1).topk(COUNT, dim=1)
            others[rows] = torch.cat([others[rows], new.int().expand(len(rows), -1)], dim=1).gather(1, places)
        return items, weights


def found_at_once(count: int) -> int:
    """Return the number of items whose neighbours are found at a time in a catalogue of `count`."""
    return max(1, HELD // max(count, 1))


def nearest(directions: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return neighbours int32 [R, K] and weights [R, K] of some rows among all unit vectors [N, H]."""
    cosines = directions[rows] @ directions.T
    cosines[torch.arange(len(rows), device=rows.device), rows] = -torch.inf
    nearest = cosines.topk(min(COUNT, len(directions)), dim=1)
    missing = (0, COUNT - nearest.values.shape[1])
    return pad(nearest.indices.int(), missing), pad(_weights(nearest.values), missing)


def _in_parts(rows: Tensor, width: int) -> tuple[Tensor, ...]:
    """Divide rows so that a part of them, times a width, is not more than may be held."""
    return tuple(rows.split(found_at_once(width)))


def _weights(cosines: Tensor) -> Tensor:
    return (SHARPNESS * (cosines - 1)).exp()
