"""How the frozen LLM reads a history with virtual tokens around it: the two prompt orders.

Both readers answer the same question, the embedding of a history, so everything above them is indifferent to the order.

Dimensions: B batch, S history, L prefix tokens, T tokens, H width of the LLM.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from laserrec.nn.backbone import Backbone
from laserrec.nn.text_cache import TextCache

GROUP = 16
ReadOut = Literal["suffix", "mean", "last"]


class Reader(Protocol):
    """Reads histories."""

    def read(self, items: Tensor, mask: Tensor, virtual: Tensor) -> Tensor:
        """Return the embedding of each history, float32 [B, H].

        Args:
            items: item indices int64 [B, S], padded on the right, in time order.
            mask: bool [B, S].
            virtual: prefix and suffix tokens [B, L + 1, H].
        """


class TextFirst:
    """[instruction ; items' text ; P ; s], the text-once order: only the virtual tokens go through the LLM."""

    def __init__(self, cache: TextCache, read_out: ReadOut) -> None:
        """Read from a cache; under `mean` the states of P and s are averaged, the only ones that this order computes."""
        self.cache, self.read_out = cache, read_out

    def read(self, items: Tensor, mask: Tensor, virtual: Tensor) -> Tensor:
        """Return the embedding of each history, float32 [B, H]; arguments as in `Reader`."""
        order = self.cache.count_tokens(items, mask).argsort(stable=True)
        # Rows of similar length are read together, so that little padding is gathered and attended to.
        parts = [self._read(items[rows], mask[rows], virtual[rows]) for rows in order.split(GROUP)]
        return torch.cat(parts)[order.argsort()] if parts else virtual.new_empty(0, virtual.shape[2])

    def _read(self, items: Tensor, mask: Tensor, virtual: Tensor) -> Tensor:
        context = self.cache.gather(items, mask)
        positions = context.ends[:, None] + torch.arange(virtual.shape[1])
        states = self.cache.decoder.forward(virtual, positions, context).float()
        return states.mean(1) if self.read_out == "mean" else states[:, -1]


class PrefixFirst:
    """[P ; instruction ; items' text ; s], exactly as in the paper: the whole prompt goes through the LLM."""

    def __init__(
        self, backbone: Backbone, instruction: Sequence[int], line: Callable[[int, int], Sequence[int]], read_out: ReadOut
    ) -> None:
        """Read whole prompts.

        Args:
            backbone: the frozen LLM.
            instruction: its token ids.
            line: token ids of an item's line, given the item's index and its number in the history, from 1.
            read_out: which states become the embedding.
        """
        self.backbone, self.instruction, self.line, self.read_out = backbone, list(instruction), line, read_out

    def read(self, items: Tensor, mask: Tensor, virtual: Tensor) -> Tensor:
        """Return the embedding of each history, float32 [B, H]; arguments as in `Reader`."""
        texts = [self._tokens(row[real].tolist()) for row, real in zip(items, mask, strict=True)]
        lengths = torch.tensor([len(text) for text in texts]) + virtual.shape[1]
        tokens = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
        embedded = self.backbone.embed(tokens)
        virtual = virtual.to(embedded.dtype)
        prefix, suffix = virtual[:, :-1], virtual[:, -1:]
        # The suffix stands right after each row's own text; what follows it is padding that no real token sees.
        inputs = torch.cat([prefix, embedded, torch.zeros_like(suffix)], dim=1)
        place = (lengths - 1)[:, None, None].expand(-1, 1, inputs.shape[2])
        states = self.backbone.forward(inputs.scatter(1, place, suffix))
        if self.read_out == "mean":
            real = (torch.arange(inputs.shape[1]) < lengths[:, None]).unsqueeze(-1)
            return (states.float() * real).sum(1) / lengths[:, None]
        return states.gather(1, place)[:, 0].float()

    def _tokens(self, history: list[int]) -> Tensor:
        tokens = list(self.instruction)
        for number, item in enumerate(history, start=1):
            tokens += self.line(item, number)
        return torch.tensor(tokens, dtype=torch.int64)
