"""Lay a catalogue out in two dimensions: the first two principal components of the items' vectors.

Dimensions: N vectors, n items in the map, H width of the language model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

import numpy as np
import torch
from numpy.typing import NDArray

from laserrec.errors import DataError
from laserrec.laser.catalogue import Catalogue
from laserrec.laser.validation import check_ids

FITTED = 10_000
"""Vectors that the axes are found from at most: more of them turn the axes by less than one can see, and cost seconds."""
COMMON = 7
"""Kinds of items with a colour, beside `OTHER`: as many as the pages have colours."""
SHARE = 0.5
"""Share of the items that these kinds must cover; an attribute with more values would leave most items in `OTHER`."""
OTHER = "other"


@dataclass(frozen=True, eq=False)
class ItemMap:
    """Items in the plane.

    Attributes:
        catalogue: how many items there are; the map holds n of them, evenly spread over the catalogue.
        item_ids: of each item in the map, in the catalogue's order.
        titles: of each item in the map.
        places: coordinates, float32 [n, 2].
        explained: share of the variance along each axis.
        attributes: of each item in the map.
    """

    catalogue: int
    item_ids: Sequence[str]
    titles: Sequence[str]
    places: NDArray[np.float32]
    explained: tuple[float, float]
    attributes: Sequence[Mapping[str, str]]

    @cached_property
    def kinds(self) -> Mapping[str, Sequence[str]]:
        """The kind of each item, by attribute; the attribute that divides the items best comes first."""
        return item_kinds(self.attributes)


def item_map(catalogue: Catalogue, limit: int, without: Collection[str] | None) -> ItemMap:
    """Lay a catalogue out.

    Args:
        catalogue: one that answers requests.
        limit: how many items the map holds at most.
        without: ids that it does not hold.

    Raises:
        DataError: the limit is no whole number from 1, or `without` is no collection of strings.
        UnknownIdError: the catalogue does not hold an id.
    """
    if not isinstance(limit, int) or limit < 1:
        raise DataError(f"Received limit = {limit!r}; it must be a whole number from 1.")
    left_out = {catalogue.find(item_id) for item_id in check_ids("without", without or ())}
    items = [index for index in catalogue.index.values() if index not in left_out]
    shown = [items[place] for place in evenly(len(items), limit)]
    places, explained = principal_plane(catalogue.unit_vectors[torch.tensor(shown, dtype=torch.int64)].float().cpu().numpy())
    return ItemMap(
        len(items),
        [catalogue.ids[index] for index in shown],
        [catalogue.title(index) for index in shown],
        places,
        explained,
        [catalogue.texts.items[index] for index in shown],
    )


def evenly(count: int, limit: int) -> NDArray[np.int64]:
    """Return at most `limit` of the places 0 to `count` - 1, evenly spread."""
    return np.linspace(0, count - 1, min(limit, count)).astype(np.int64)


def principal_plane(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """Return the first two principal components of vectors [N, H], float32 [N, 2], and the share of the variance along each.

    An axis and its negative are the same component; the one whose largest coefficient is positive is returned.
    """
    if not len(vectors):
        return np.empty((0, 2), np.float32), (0.0, 0.0)
    centred = vectors - vectors.mean(0)
    fitted = centred[evenly(len(centred), FITTED)]
    values, axes = np.linalg.eigh((fitted.T @ fitted).astype(np.float64))
    axes = axes[:, :-3:-1]  # eigh sorts ascending
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(2)])
    total = max(float(values.sum()), 1e-12)  # equal vectors have no variance to divide by
    return centred @ axes.astype(np.float32), (float(values[-1]) / total, float(values[-2]) / total)


def item_kinds(items: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """Divide items by each attribute that divides them well: by its first word after those that nearly all share.

    Category paths and lists of genres have far too many values to be told apart by colour; their first word says most of it. The `COMMON`
    most common words are kinds, every other item is `OTHER`. An attribute divides items well if it has at least two kinds, not one for each
    item, and they cover more than `SHARE` of the items.

    Args:
        items: attributes of each.

    Returns:
        The kind of each item, by attribute; the attribute whose kinds cover most items comes first.
    """
    found: list[tuple[int, str, list[str]]] = []
    for name in sorted({key for item in items for key in item} - {"title"}):
        words = _first_words([item.get(name, "") for item in items])
        common = dict(Counter(word for word in words if word).most_common(COMMON))
        covered = sum(common.values())
        if covered > len(common) > 1 and covered > int(SHARE * len(items)):
            found.append((-covered, name, [word if word in common else OTHER for word in words]))
    return {name: kinds for _, name, kinds in sorted(found)}


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
