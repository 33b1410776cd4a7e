"""Processes that train together over torch.distributed: gloo between CPUs, nccl between GPUs.

This module knows nothing of Ray, which starts the processes, nor of what they train.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


class DistributedStrategy:
    """The `training.strategy.Strategy` of the processes of torch's default group, which must be there; rank 0 is the main one.

    Every process must make the same calls: one that fails leaves the others waiting, so whoever starts processes ends all when one ends.
    """

    def __init__(self) -> None:
        """Find this process's place in the group."""
        self.rank, self.workers = dist.get_rank(), dist.get_world_size()
        self.main = self.rank == 0

    def share(self, count: int) -> range:
        """Return every `workers`-th piece, so that the shares of few pieces are as even as they can be."""
        return range(self.rank, count, self.workers)

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Sum over the processes, all tensors of a dtype in one exchange."""
        self._exchange(tensors, dist.all_reduce)

    def gather(self, value: T) -> list[T]:
        """Return every process's value."""
        found: list[T | None] = [None] * self.workers
        dist.all_gather_object(found, value)
        return found  # type: ignore[return-value] # every place was filled

    def agree(self, compute: Callable[[], T]) -> T:
        """Compute a value in the main process, and send it to the others."""
        found = [compute() if self.main else None]
        dist.broadcast_object_list(found)
        return found[0]  # type: ignore[return-value]

    def align(self, tensors: Sequence[Tensor]) -> None:
        """Send the main process's tensors to the others."""
        self._exchange(tensors, dist.broadcast)

    @torch.no_grad()
    def _exchange(self, tensors: Sequence[Tensor], operation: Callable[..., object]) -> None:
        """Run an operation on flat copies, one a dtype: an exchange of many small tensors waits for the network once for each."""
        by_type = sorted(range(len(tensors)), key=lambda place: str(tensors[place].dtype))
        for dtype, places in groupby(by_type, key=lambda place: tensors[place].dtype):
            group = [tensors[place] for place in places]
            # gloo has no booleans.
            flat = torch.cat([tensor.reshape(-1) for tensor in group]).to(torch.uint8 if dtype == torch.bool else dtype)
            operation(flat, *([] if operation is dist.all_reduce else [0]))
            for tensor, part in zip(group, flat.split([tensor.numel() for tensor in group]), strict=True):
                tensor.copy_(part.view_as(tensor))
