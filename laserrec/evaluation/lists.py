"""Measure recommended lists beyond whether the target is on them: coverage, diversity, novelty, serendipity and popularity.

The definitions are those of RecTools: `CatalogCoverage`, `IntraListDiversity`, `MeanInvUserFreq`, `Serendipity`, `AvgRecPopularity`. All
but the first are means over the users who got a list. The distance of two items is 1 − the cosine of their texts' TF-IDF vectors: every
dataset has texts, not every one has attributes to compare. Knows nothing of models.

Dimensions: R lists, K list, N catalogue, V words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from laserrec.data.dataset import Dataset
from laserrec.layers.tf_idf import tf_idf

LISTS_AT_ONCE = 4096
"""Lists whose items' words are gathered at a time; each of ten short texts takes some 10 KB."""


@dataclass(frozen=True, eq=False)
class ListMeasures:
    """What lists of a dataset's items are measured by.

    Attributes:
        counts: training events of each item, int64 [N].
        novelty: −log₂ of the share of users who have the item in training, float64 [N]; an item without users counts as one with one.
        popular_place: (N + 1 − r) / N for an item of popularity rank r, 0 for one without events, float64 [N]. Equally popular items share
            a rank, and the next ones have the following.
        texts: TF-IDF vectors of the items' attributes at length 1, sparse float64 [N, V].
    """

    counts: NDArray[np.int64]
    novelty: NDArray[np.float64]
    popular_place: NDArray[np.float64]
    texts: Tensor

    @classmethod
    def of(cls, data: Dataset) -> ListMeasures:
        """Count a dataset's training events and its items' words."""
        histories, total = data.training_histories(), len(data.item_ids)
        counts = np.bincount(histories.values, minlength=total)
        # A user who has an item twice is one user of it.
        owners = np.repeat(np.arange(len(histories)), histories.lengths)
        users = np.bincount(np.unique(owners * total + histories.values) % total, minlength=total)
        novelty = -np.log2(np.maximum(users, 1) / max(int((histories.lengths > 0).sum()), 1))
        _, ranks = np.unique(-counts, return_inverse=True)
        popular_place = np.where(counts > 0, (total - ranks) / total, 0.0)  # ranks here start at 0
        texts = tf_idf([" ".join(item.values()) for item in data.attributes()])
        return cls(counts, novelty, popular_place, texts.double())

    def measure(self, lists: NDArray[np.int64], targets: NDArray[np.int64], k: int) -> dict[str, float]:
        """Measure recommended lists.

        Args:
            lists: item indices, best first, int64 [R, K or fewer]; -1 for places left empty, which come last.
            targets: the item that came next, int64 [R].
            k: K, how many were asked for; a smaller catalogue has fewer.

        Returns:
            coverage@K, ild@K (diversity), miuf@K (novelty), serendipity@K and arp@K (popularity); coverage alone where every list is empty.
        """
        places, total = lists >= 0, len(self.counts)
        found = {f"coverage@{k}": len(np.unique(lists[places])) / total}
        some = places.any(1)
        if not some.any():
            return found
        lists, targets, places = lists[some], targets[some], places[some]

        def mean(values: NDArray[np.float64]) -> float:
            """Return the mean over users of a value's mean over each one's list."""
            return float((np.where(places, values, 0.0).sum(1) / places.sum(1)).mean())

        surprise = np.maximum((total - np.arange(lists.shape[1])) / total - self.popular_place[lists], 0.0) * (lists == targets[:, None])
        return found | {
            f"ild@{k}": float(np.concatenate([self._diversity(part) for part in _parts(lists)]).mean()),
            f"miuf@{k}": mean(self.novelty[lists]),
            f"serendipity@{k}": mean(surprise),
            f"arp@{k}": mean(self.counts[lists].astype(np.float64)),
        }

    def _diversity(self, lists: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the mean distance of each list's pairs of items, float64 [R]; 0 for a list of one.

        The cosines of all pairs add up to ‖Σ v‖² − Σ ‖v‖², so only the sum of each list's vectors is needed.
        """
        owner, place = (torch.from_numpy(found) for found in (lists >= 0).nonzero())
        vectors = self.texts.index_select(0, torch.from_numpy(lists)[owner, place]).coalesce()
        row, word = vectors.indices()
        size = len(lists), self.texts.shape[1]
        sums = torch.sparse_coo_tensor(torch.stack([owner[row], word]), vectors.values(), size, check_invariants=True).coalesce()
        zeros = torch.zeros(len(lists), dtype=torch.float64)
        together = zeros.index_add(0, sums.indices()[0], sums.values().square())
        alone = zeros.index_add(0, owner[row], vectors.values().square())
        length = torch.bincount(owner, minlength=len(lists))
        distances = 1 - (together - alone) / (length * (length - 1)).clamp(min=1)
        return torch.where(length > 1, distances, zeros).numpy()


def _parts(lists: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [lists[start : start + LISTS_AT_ONCE] for start in range(0, len(lists), LISTS_AT_ONCE)]
