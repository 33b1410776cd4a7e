"""The catalogue as the model sees it, in two dimensions: the first two principal components of the items' vectors.

Dimensions: N catalogue, H width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from laserrec.data.dataset import Dataset
from laserrec.recommender import Laser
from laserrec.report.kinds import item_kinds

SHOWN = 4000
"""Items that are drawn at most, beside those of the paths."""


@dataclass(frozen=True)
class Path:
    """One user's way through the catalogue.

    Attributes:
        user: their id.
        items: places in the map, oldest first; the last is the test event.
    """

    user: str
    items: Sequence[int]


@dataclass(frozen=True)
class ItemMap:
    """Items in the plane.

    Attributes:
        catalogue: N, of which some may be left out of the map.
        places: coordinates, float32 [n, 2].
        explained: share of the variance along each axis.
        titles: of each item in the map.
        events: of train, of each.
        attribute: whose first word the kinds are; None where no attribute divides the items well.
        kinds: of each item, as `laserrec.report.kinds` divides them; empty without an attribute.
        paths: a few users.
    """

    catalogue: int
    places: NDArray[np.float32]
    explained: tuple[float, float]
    titles: Sequence[str]
    events: Sequence[int]
    attribute: str | None
    kinds: Sequence[str]
    paths: Sequence[Path]


def item_map(laser: Laser, data: Dataset, paths: Sequence[tuple[str, Sequence[int]]]) -> ItemMap:
    """Lay the catalogue out.

    Args:
        laser: the trained model.
        data: its dataset.
        paths: users with their items, indices in time order.
    """
    vectors, count = laser.item_vectors(), len(data.item_ids)
    places, explained = principal_plane(vectors)
    chosen = np.linspace(0, count - 1, min(SHOWN, count)).astype(np.int64)
    shown = np.unique(np.concatenate([chosen, *(np.array(items, np.int64) for _, items in paths)]))
    where = {int(item): place for place, item in enumerate(shown)}
    trained = np.bincount(data.training_histories().values, minlength=count)
    attribute, kinds = item_kinds(data.attributes())
    return ItemMap(
        count,
        places[shown],
        explained,
        [laser.title(data.item_ids[item]) for item in shown],
        trained[shown].tolist(),
        attribute,
        [kinds[item] for item in shown] if attribute else [],
        [Path(user, [where[item] for item in items]) for user, items in paths],
    )


def principal_plane(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Return the first two principal components of vectors [N, H], float32 [N, 2], and the share of the variance along each.

    An axis may be turned round without being another; here its largest coefficient is positive.
    """
    centred = vectors - vectors.mean(0)
    values, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    axes = axes[:, :-3:-1]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(2)])
    total = max(float(values.sum()), 1e-12)
    return centred @ axes.astype(np.float32), (float(values[-1]) / total, float(values[-2]) / total)
