"""EASE: the linear model that predicts each item from the others a user took (Steck, WWW 2019), in closed form.

    W = argmin ‖X − XW‖² + λ‖W‖²,  diag W = 0;   X[u, i] = 1 where user u took item i in training

With P = (XᵀX + λ)⁻¹ it is W = −P / diag P with zeros on the diagonal. P has N² numbers and costs N³ operations, so beyond `EXACT` items
each is predicted from the `TOP` items that it was most often taken with alone: N small systems of the same kind (docs/method.md).

Departure: the history is read as `layers.item_weights` does, recent items counting more. With equal weights for all of it, N@10 on
Scientific is .0901 instead of .0924 (docs/log.md).

Dimensions: U users, N catalogue, K items that one is predicted from.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from laserrec.data.ragged import Ragged
from laserrec.layers.item_weights import ItemWeights, SparseWeights
from laserrec.layers.neighbours import COUNT, EVENTS_FLOOR, Neighbours
from laserrec.training.neighbours import keep_nearest

STRENGTH = 50.0
"""λ, in users: a pair of items that fewer took together weighs little."""
EXACT = 10_000
"""Items up to which the whole matrix is inverted: .4 GB in float32 once it is made, 2.5 GB meanwhile, half a minute on two cores."""
TOP = 100
"""K beyond that."""
RECENT = 50
"""Items of a history that count beyond that, counted from the last: pairs grow with their square."""
USERS, LOOKED_UP = 1024, 2**22
"""Users whose items are counted at a time, and pairs of items that are looked up."""


def fit_ease(histories: Ragged, count: int, strength: float = STRENGTH) -> ItemWeights | SparseWeights:
    """Fit EASE to training histories.

    Args:
        histories: training histories.
        count: N.
        strength: λ.

    Returns:
        A scorer: with all weights up to `EXACT` items, beyond with those of each item's `TOP` most frequent companions.
    """
    return exact(histories, count, strength) if count <= EXACT else restricted(histories, count, TOP, strength)


def ease_neighbours(histories: Ragged, count: int) -> Neighbours:
    """Keep the largest weights above 0 from each item: as many as a table of neighbours has, which rank as well as all (docs/log.md)."""
    solved, table = fit_ease(histories, count), Neighbours(count, EVENTS_FLOOR)
    if isinstance(solved, ItemWeights):
        nearest = solved.weights.clamp(min=0).topk(min(COUNT, count), dim=1)
        table.items[:, : nearest.indices.shape[1]], table.weights[:, : nearest.values.shape[1]] = nearest.indices.int(), nearest.values
        return table
    weights = solved.factors[0].coalesce()
    positive = weights.values() > 0
    to, item = (places[positive].numpy() for places in weights.indices())
    keep_nearest(table, item, to, weights.values()[positive].double().numpy())
    return table


def exact(histories: Ragged, count: int, strength: float) -> ItemWeights:
    """Solve for all weights at once."""
    gram = torch.zeros(count, count)
    user, item = _taken(histories, count)
    for part in torch.arange(len(histories)).split(USERS):
        rows = (user >= part[0]) & (user <= part[-1])
        places = torch.stack([user[rows] - part[0], item[rows]])
        took = torch.sparse_coo_tensor(places, torch.ones(places.shape[1]), (len(part), count), check_invariants=True)
        gram += torch.sparse.mm(took.T, took.to_dense())
    system = gram.double()
    system.diagonal().add_(strength)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(system))
    weights = (inverse / -inverse.diagonal()).float()
    return ItemWeights(weights.fill_diagonal_(0), EVENTS_FLOOR)


def restricted(histories: Ragged, count: int, top: int, strength: float) -> SparseWeights:
    """Solve for the weights to each item from the `top` items that it was most often taken with; of equal ones the lower index first."""
    taken, times = _together(histories.tails(RECENT), count)
    row, column = taken // count, taken % count
    pairs = (row != column).nonzero()[:, 0]
    pairs = pairs[times[pairs].argsort(descending=True, stable=True)]
    pairs = pairs[row[pairs].argsort(stable=True)]
    place = torch.arange(len(pairs)) - torch.searchsorted(row[pairs], row[pairs])
    kept, place = pairs[place < top], place[place < top]
    among, real = torch.zeros(count, top, dtype=torch.int64), torch.zeros(count, top, dtype=torch.bool)
    among[row[kept], place], real[row[kept], place] = column[kept], True

    def found(first: Tensor, second: Tensor) -> Tensor:
        wanted = first * count + second
        where = torch.searchsorted(taken, wanted).clamp_(max=len(taken) - 1)  # codes ascend
        return torch.where(taken[where] == wanted, times[where], 0.0)

    weights = torch.zeros(count, top)
    for part in row[kept].unique().split(max(1, LOOKED_UP // top**2)):
        chosen, there = among[part], real[part]
        system = found(chosen[:, :, None], chosen[:, None, :]) * (there[:, :, None] & there[:, None, :])
        system.diagonal(dim1=1, dim2=2).add_(strength)  # a free place is alone with it, and gets 0
        wanted = found(chosen, part[:, None]) * there
        weights[part] = torch.linalg.solve(system, wanted[..., None])[..., 0].float()
    row, place = real.nonzero(as_tuple=True)
    matrix = torch.sparse_coo_tensor(torch.stack([row, among[row, place]]), weights[row, place], (count, count), check_invariants=True)
    return SparseWeights([matrix.coalesce()], EVENTS_FLOOR)


def _taken(histories: Ragged, count: int) -> tuple[Tensor, Tensor]:
    """Return who took what, once each: users and items, int64, ordered by user and item."""
    pairs = np.unique(np.repeat(np.arange(len(histories)), histories.lengths) * count + histories.values)
    return torch.from_numpy(pairs // count), torch.from_numpy(pairs % count)


def _together(histories: Ragged, count: int) -> tuple[Tensor, Tensor]:
    """Return the pairs of items that a user took both of, as codes first · N + second that ascend, and by how many users, float64."""
    user, item = _taken(histories, count)
    lengths = torch.bincount(user, minlength=len(histories))
    others = lengths[user]
    starts = (lengths.cumsum(0) - lengths)[user]
    ends = others.cumsum(0)
    place = torch.arange(int(others.sum())) + (starts - ends + others).repeat_interleave(others)
    codes, times = (item.repeat_interleave(others) * count + item[place]).unique(return_counts=True)
    return codes, times.double()
