"""Lay the catalogue out in two dimensions: the first two principal components of the items' vectors.

Dimensions: N catalogue, n items in the map, H width of the language model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from laserrec.data.dataset import Dataset
from laserrec.recommender import Laser

SHOWN = 4000
"""Items in the map at most: a browser still moves so many points smoothly."""
COMMON = 7
"""Kinds of items with a colour, beside `OTHER`: as many as the page has colours."""
SHARE = 0.5
"""Share of the items that these kinds must cover; an attribute with more values would leave most items in `OTHER`."""
OTHER = "other"


@dataclass(frozen=True)
class ItemMap:
    """Items in the plane.

    Attributes:
        catalogue: N, of which some may be left out of the map.
        places: coordinates, float32 [n, 2].
        explained: share of the variance along each axis.
        titles: of each item in the map.
        events: training events of each item in the map.
        attribute: whose first word the kinds are; None where no attribute divides the items well.
        kinds: of each item in the map; empty without an attribute.
    """

    catalogue: int
    places: NDArray[np.float32]
    explained: tuple[float, float]
    titles: Sequence[str]
    events: Sequence[int]
    attribute: str | None
    kinds: Sequence[str]


def item_map(laser: Laser, data: Dataset) -> ItemMap:
    """Lay the catalogue out.

    Args:
        laser: the trained model.
        data: its dataset.
    """
    count = len(data.item_ids)
    places, explained = principal_plane(laser.item_vectors())
    shown = np.linspace(0, count - 1, min(SHOWN, count)).astype(np.int64)
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
    )


def principal_plane(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Return the first two principal components of vectors [N, H], float32 [N, 2], and the share of the variance along each.

    An axis and its negative are the same component; the one whose largest coefficient is positive is returned.
    """
    centred = vectors - vectors.mean(0)
    values, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    axes = axes[:, :-3:-1]  # eigh sorts ascending
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(2)])
    total = max(float(values.sum()), 1e-12)  # equal vectors have no variance to divide by
    return centred @ axes.astype(np.float32), (float(values[-1]) / total, float(values[-2]) / total)


def item_kinds(items: Sequence[dict[str, str]]) -> tuple[str | None, list[str]]:
    """Divide items by an attribute: by its first word after those that nearly all share, the `COMMON` most common ones.

    Category paths and lists of genres have far too many values to be told apart by colour; their first word says most of it. The attribute
    is the one whose common words cover most items; without one that covers `SHARE`, and has two of them, there is none.

    Args:
        items: attributes of each.

    Returns:
        The attribute and the kind of each item; None and no kinds where no attribute divides the items well.
    """
    covered = int(SHARE * len(items))
    chosen: str | None = None
    kinds: list[str] = []
    for name in sorted({key for item in items for key in item} - {"title"}):
        words = _first_words([item.get(name, "") for item in items])
        common = dict(Counter(word for word in words if word).most_common(COMMON))
        if len(common) > 1 and sum(common.values()) > covered:
            covered = sum(common.values())
            chosen = name
            kinds = [word if word in common else OTHER for word in words]
    return chosen, kinds


def _first_words(texts: Sequence[str]) -> list[str]:
    """Return the first word of each text after the beginning that nine tenths of those with any text share; empty where there is none."""
    split = [text.split() for text in texts]
    written = [words for words in split if words]

    def shared(place: int) -> bool:
        common = Counter(words[place] for words in written if len(words) > place).most_common(1)
        return bool(common) and common[0][1] >= 0.9 * len(written)

    longest = max(map(len, written), default=0)
    start = sum(1 for _ in takewhile(shared, range(longest)))
    return [words[start].strip(",;|/") if len(words) > start else "" for words in split]
