"""How many bytes torch's operations hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary


class Held(TorchDispatchMode):
    """Counts the bytes of all storages that torch's operations made and that still live, and keeps the highest sum."""

    def __init__(self, *outside: Tensor) -> None:
        super().__init__()
        self.outside = {tensor.untyped_storage().data_ptr() for tensor in outside}
        self.living: dict[int, StorageWeakRef] = {}
        self.bytes: dict[int, int] = {}
        self.opaque = WeakTensorKeyDictionary()
        self.peak = self.peak_opaque = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:  # noqa: ANN401
        out = func(*args, **(kwargs or {}))
        self.living = {place: storage for place, storage in self.living.items() if not storage.expired()}
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.layout == torch._mkldnn:  # has no storage that torch knows of
                self.opaque[leaf] = torch.ops.mkldnn._nbytes(leaf)
                self.peak_opaque = max(self.peak_opaque, sum(self.opaque.values()))
            elif isinstance(leaf, Tensor) and leaf.numel() and (place := leaf.untyped_storage().data_ptr()) not in self.outside:
                self.living[place], self.bytes[place] = StorageWeakRef(leaf.untyped_storage()), leaf.untyped_storage().nbytes()
        self.peak = max(self.peak, sum(self.bytes[place] for place in self.living) + sum(self.opaque.values()))
        return out
