"""What every prompt order answers: the embedding of a history with virtual tokens around it.

Dimensions: B batch, S history, L prefix tokens, H width of the LLM.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

GROUP, GROUP_ON_CUDA = 16, 256
"""Rows of similar length that attend together: few, so that little padding is computed; on CUDA many, for there launches cost more."""


class Reader(Protocol):
    """Reads histories."""

    def read(self, items: Tensor, mask: Tensor, virtual: Tensor) -> Tensor:
        """Return the embedding of each history, float32 [B, H].

        Args:
            items: item indices int64 [B, S], padded on the right, in time order.
            mask: bool [B, S].
            virtual: prefix and suffix tokens [B, L + 1, H].
        """


def group_size(device: torch.device) -> int:
    """Return how many rows of similar length are read together on a device."""
    return GROUP_ON_CUDA if device.type == "cuda" else GROUP
