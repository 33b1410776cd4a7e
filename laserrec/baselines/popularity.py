"""The most popular items, the same for everyone: what any personalised model must beat."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from laserrec.data.ragged import Ragged


class Popularity:
    """Scores an item by its events in training."""

    name = "Popularity"
    trained_parameters = 0

    def __init__(self, counts: NDArray[np.int64]) -> None:
        """Take the events of each item, int64 [N]."""
        self.counts = torch.from_numpy(counts.astype(np.float32))

    @classmethod
    def fit(cls, histories: Ragged, catalogue_size: int) -> Popularity:
        """Count the events of training histories."""
        return cls(np.bincount(histories.values, minlength=catalogue_size))

    def scores(self, items: Tensor, mask: Tensor) -> Tensor:
        """Return the counts for every history; see `Baseline`."""
        return self.counts.to(items.device).expand(len(items), -1)
