"""The one interface of what Laser is compared with."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Baseline(Protocol):
    """A finished recommender: nothing is trained through this interface."""

    @property
    def name(self) -> str:
        """What tables call it."""

    @property
    def trained_parameters(self) -> int:
        """Numbers that training, or a choice on validation, set."""

    def scores(self, items: Tensor, mask: Tensor) -> Tensor:
        """Score the whole catalogue after each history.

        Args:
            items: item indices, int64 [B, S], of any length, padded on the right.
            mask: bool [B, S], True where an item is real, at least once a row.

        Returns:
            float [B, N], larger is better.
        """
