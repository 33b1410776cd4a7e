"""Text-once: every text's keys and values at every layer, computed a single time.

With the prompt order [text; P; s] no text token attends to a trainable token, so what the frozen LLM makes of a text is a constant. A
*block* is one text: the instruction, or one item's line read after the instruction. Blocks do not see each other; the virtual tokens
see the instruction and all blocks of a history, standing one after the other in time order.

Here the texts of a list find their blocks, which `blocks` shares among all lists, and are laid one after the other.

Dimensions: B batch, S blocks of a history, T context tokens, N texts.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from copy import copy
from typing import Self

import numpy as np
import torch
from torch import Tensor

from laserrec.llm.backbone import Backbone
from laserrec.llm.buckets import CachedContext
from laserrec.text_cache.arena import Slot
from laserrec.text_cache.blocks import INSTRUCTION, Blocks, Held, SharedBlocks
from laserrec.text_cache.encoder import Numbers, cache_bytes
from laserrec.text_cache.store import OpenStore


class TextCache:
    """A list of texts, each with its block; it never changes, and any number of threads may gather from it.

    Texts that are alike share a block, also with those of the lists that `extended` and `take` make of this one.

    Attributes:
        backbone: the frozen LLM.
        decoder: runs new tokens over what `gather` returns.
        numbers: how keys and values are kept in the store.
    """

    def __init__(
        self,
        backbone: Backbone,
        instruction: Sequence[int],
        items: Sequence[Sequence[int]],
        *,
        numbers: Numbers = "exact",
        memory: int | None = None,
    ) -> None:
        """Take the texts; only the instruction is encoded yet.

        Args:
            backbone: the frozen LLM.
            instruction: token ids that stand before every history; may be empty.
            items: token ids of each text, in index order.
            numbers: how keys and values are kept in the store; `int8` halves what they take there.
            memory: bytes of blocks to hold in the memory of the LLM's device; half of what is free when None. More only if a single batch
                needs more.
        """
        self._shared = SharedBlocks(backbone, instruction, numbers=numbers, memory=memory)
        self.backbone, self.decoder, self.numbers = backbone, self._shared.encoder.decoder, numbers
        self._set(self._shared.take(items))

    def _set(self, blocks: Blocks) -> None:
        """Stand for blocks that were taken, until nobody has this list or what it gathered."""
        weakref.finalize(self, self._shared.give_back, blocks).atexit = False
        self._of_item = torch.from_numpy(blocks)
        lengths = self._shared.lengths
        self._lengths, self._head = torch.from_numpy(lengths[blocks]), int(lengths[INSTRUCTION])

    def extended(self, items: Sequence[Sequence[int]]) -> Self:
        """Return a list with further texts, given as token ids, behind these."""
        new = self._shared.take(items)
        self._shared.take_again(self._of_item.numpy())
        return self._of(np.concatenate([self._of_item.numpy(), new]))

    def take(self, order: Tensor) -> Self:
        """Return a list of those of the texts that `order` names by index, int64 [n]."""
        blocks = self._of_item[order.cpu()].numpy()
        self._shared.take_again(blocks)
        return self._of(blocks)

    def _of(self, blocks: Blocks) -> Self:
        other = copy(self)
        other._set(blocks)
        return other

    def __len__(self) -> int:
        return len(self._of_item)

    @property
    def _blocks(self) -> Blocks:
        """The numbers of the different texts: sorted out when somebody asks, since a list of many items is made at every change."""
        return np.unique(self._of_item.numpy())

    @property
    def texts(self) -> int:
        """Number of different texts."""
        return len(self._blocks)

    @property
    def tokens(self) -> int:
        """Number of tokens of all texts, each text counted once, and of the instruction."""
        return self._head + int(self._shared.lengths[self._blocks].sum())

    @property
    def bytes(self) -> int:
        """Bytes of the keys and values of all texts, encoded or not yet, as a store keeps them."""
        return cache_bytes(self.tokens, self.decoder, self.numbers)

    @property
    def missing(self) -> int:
        """Number of tokens that `build` would encode: those of the texts that the store lacks, or of all while none is open."""
        return int(self._shared.lengths[self._shared.unwritten(self._blocks)].sum())

    @property
    def memory(self) -> int:
        """Bytes of memory that blocks take once all were read, or the limit where that is less."""
        return min(self.unlimited_memory, self._shared.limit)

    @property
    def unlimited_memory(self) -> int:
        """Bytes of memory that they would take without a limit."""
        return cache_bytes(self.tokens, self.decoder)

    @property
    def seconds(self) -> float:
        """What encoding the texts took, in this process or in those that kept them."""
        return self._shared.seconds(self._blocks)

    def open(self, store: OpenStore, *, writes: bool) -> None:
        """Read blocks, those of all lists that share them, from a store from now on.

        Args:
            store: opens it.
            writes: whether `build` may be called, and damaged blocks are replaced.

        Raises:
            CheckpointError: what is there cannot be opened or read.
        """
        self._shared.open(store, writes=writes)

    def build(self, log: Callable[[int], None] = lambda _: None) -> None:
        """Encode what the store lacks, part by part: a process that is killed loses one part at most.

        Several processes take turns, and none encodes what another has written. No other thread may read meanwhile.

        Args:
            log: gets the number of texts that are encoded so far.

        Raises:
            CheckpointError: the store cannot be written to, or does not keep what is written.
        """
        self._shared.write(self._blocks, log)

    def count_tokens(self, items: Tensor, mask: Tensor) -> Tensor:
        """Return the number of the texts' tokens in each history, int64 [B], on the items' device; arguments as in `gather`."""
        return torch.where(mask, self._lengths[items.cpu()].to(items.device), 0).sum(1)

    def gather(self, items: Tensor, mask: Tensor) -> CachedContext:
        """Lay the instruction and the histories' blocks one after the other, on the LLM's device.

        Args:
            items: indices int64 [B, S], padded on the right, on any device.
            mask: True where an item is real, bool [B, S].
        """
        items, mask = items.cpu(), mask.cpu()
        start = items.new_zeros(len(items), 1)
        blocks = torch.cat([start + INSTRUCTION, torch.where(mask, self._of_item[items], INSTRUCTION)], dim=1)
        lengths = torch.cat([start + self._head, torch.where(mask, self._lengths[items], 0)], dim=1)
        held = self._shared.hold(blocks, lengths > 0)
        try:
            found = self._laid(held, items, lengths)
        except BaseException:  # Ctrl-C and a full GPU as well: nobody else would release them
            self._shared.release(held.slots)
            raise
        # As long as its rows are read, their blocks stay in place, and this list's texts keep their numbers.
        weakref.finalize(found, _release, self, held.slots).atexit = False
        return found

    def _laid(self, held: Held, items: Tensor, lengths: Tensor) -> CachedContext:
        """Lay held blocks of `lengths` tokens, int64 [B, 1 + S], one after the other; `items` as in `gather`."""
        ends = lengths.cumsum(1)
        totals = ends[:, -1:]
        places = torch.arange(int(totals.max()) if len(totals) else 0).expand(len(items), -1).contiguous()
        block = torch.searchsorted(ends, places, right=True).clamp_(max=items.shape[1])
        real = places < totals
        index = (held.first - ends + lengths).gather(1, block) + places
        stride = lengths.gather(1, block)
        zero = torch.zeros((), dtype=torch.int64)
        parts = *(torch.where(real, part, zero) for part in (index, stride, places)), real
        index, stride, places, mask = (part.to(held.rows.device) for part in parts)
        return CachedContext(held.rows, index, stride, places, mask, padded=not bool(real.all()))


def _release(cache: TextCache, slots: list[Slot]) -> None:
    cache._shared.release(slots)
