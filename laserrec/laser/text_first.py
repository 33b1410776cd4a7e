"""The text-once prompt order [instruction ; items' text ; P ; s]: only the virtual tokens go through the LLM.

Dimensions: B batch, S history, L prefix tokens, H width of the LLM.
"""

from __future__ import annotations

import torch
from torch import Tensor

from laserrec.laser.read_outs import READ_OUTS, ReadOutName
from laserrec.laser.reader import group_size
from laserrec.llm.decoder import TokenBatch
from laserrec.text_cache.cache import TextCache


class TextFirst:
    """[instruction ; items' text ; P ; s], the text-once order: only the virtual tokens go through the LLM."""

    def __init__(self, cache: TextCache, read_out: ReadOutName) -> None:
        """Read from a cache; a read-out sees the states of P and s, the only ones that this order computes."""
        self.cache, self.read_out = cache, READ_OUTS[read_out]

    def read(self, items: Tensor, mask: Tensor, virtual: Tensor) -> Tensor:
        """Return the embedding of each history, float32 [B, H]; arguments as in `Reader`."""
        if not len(items):
            return virtual.new_empty(0, virtual.shape[2])
        # Rows of similar length form a group, so that little padding is gathered and attended to.
        order = self.cache.count_tokens(items, mask).argsort(stable=True)
        groups = [self._group(items[part], mask[part], virtual[part]) for part in order.split(group_size(virtual.device))]
        lengths = [group.positions.new_full((len(group.inputs),), virtual.shape[1]) for group in groups]
        return torch.cat(self.read_out.read(self.cache.decoder, groups, lengths))[order.argsort()]

    def _group(self, items: Tensor, mask: Tensor, virtual: Tensor) -> TokenBatch:
        context = self.cache.gather(items, mask)
        return TokenBatch(virtual, context.ends[:, None] + torch.arange(virtual.shape[1], device=virtual.device), context)
