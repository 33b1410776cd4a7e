"""How the frozen LLM reads a history with virtual tokens around it: the two prompt orders.

Both readers answer the same question, the embedding of a history, so everything above them is indifferent to the order.

Dimensions: B batch, S history, L prefix tokens, T tokens, H width of the LLM.
"""

from __future__ import annotations

import torch
from torch import Tensor

from laserrec.laser.reader import ReadOut, group_size
from laserrec.llm.decoder import TokenBatch
from laserrec.text_cache.cache import TextCache


class TextFirst:
    """[instruction ; items' text ; P ; s], the text-once order: only the virtual tokens go through the LLM."""

    def __init__(self, cache: TextCache, read_out: ReadOut) -> None:
        """Read from a cache; under `mean` the states of P and s are averaged, the only ones that this order computes."""
        self.cache, self.read_out = cache, read_out

    def read(self, items: Tensor, mask: Tensor, virtual: Tensor) -> Tensor:
        """Return the embedding of each history, float32 [B, H]; arguments as in `Reader`."""
        if not len(items):
            return virtual.new_empty(0, virtual.shape[2])
        decoder, order = self.cache.decoder, self.cache.count_tokens(items, mask).argsort(stable=True)
        # Rows of similar length form a group, so that little padding is gathered and attended to.
        groups = [self._rows(items[part], mask[part], virtual[part]) for part in order.split(group_size(virtual.device))]
        if self.read_out == "mean":
            found = [states.float().mean(1) for states in decoder.run(groups)]
        else:
            last = virtual.shape[1] - 1
            found = [
                states.float() for states in decoder.read(groups, [part.positions.new_full((len(part.inputs),), last) for part in groups])
            ]
        return torch.cat(found)[order.argsort()]

    def _rows(self, items: Tensor, mask: Tensor, virtual: Tensor) -> TokenBatch:
        context = self.cache.gather(items, mask)
        return TokenBatch(virtual, context.ends[:, None] + torch.arange(virtual.shape[1], device=virtual.device), context)
