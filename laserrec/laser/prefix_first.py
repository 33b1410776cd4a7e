"""The paper's prompt order [P ; instruction ; items' text ; s]: the whole prompt goes through the LLM at every step.

Dimensions: B batch, S history, L prefix tokens, T tokens, H width of the LLM.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from laserrec.laser.read_outs import READ_OUTS, ReadOutName
from laserrec.laser.reader import group_size
from laserrec.llm.backbone import Backbone
from laserrec.llm.decoder import RotaryDecoder, TokenBatch
from laserrec.llm.support import unsupported_reason

ALIKE = 1.25
"""Whole prompts that attend together: the longest has at most this many times the tokens of the shortest, for padding is computed, too."""


class PrefixFirst:
    """[P ; instruction ; items' text ; s], exactly as in the paper: the whole prompt goes through the LLM."""

    def __init__(
        self, backbone: Backbone, instruction: Sequence[int], line: Callable[[int, int], Sequence[int]], read_out: ReadOutName
    ) -> None:
        """Read whole prompts.

        Args:
            backbone: the frozen LLM.
            instruction: its token ids.
            line: token ids of an item's line, given the item's index and its number in the history, from 1.
            read_out: which states become the embedding.
        """
        self.backbone, self.instruction, self.line, self.read_out = backbone, list(instruction), line, READ_OUTS[read_out]
        self.decoder = None if unsupported_reason(backbone.model) else RotaryDecoder(backbone.model, fused=backbone.compiled)

    def read(self, items: Tensor, mask: Tensor, virtual: Tensor) -> Tensor:
        """Return the embedding of each history, float32 [B, H]; arguments as in `Reader`."""
        if not len(items):
            return virtual.new_empty(0, virtual.shape[2])
        texts = [self._tokens(row[real].tolist()) for row, real in zip(items.cpu(), mask.cpu(), strict=True)]
        lengths, device = torch.tensor([len(text) for text in texts]) + virtual.shape[1], virtual.device
        order = lengths.argsort(stable=True)
        sizes, there = alike(lengths[order].tolist(), group_size(device)), order.to(device)
        ends = lengths[order].to(device).split(sizes)
        prompts = [
            self._prompts([texts[row] for row in rows.tolist()], part, end)
            for rows, part, end in zip(order.split(sizes), virtual[there].split(sizes), ends, strict=True)
        ]
        return torch.cat(self._states(prompts, ends))[there.argsort()]

    def _states(self, prompts: Sequence[Tensor], lengths: Sequence[Tensor]) -> list[Tensor]:
        """Read groups of prompts [B, T, H] of these lengths int64 [B]: embeddings float32 [B, H] a group."""
        if self.decoder is None:
            return [self.read_out.of(self.backbone.forward(group), length) for group, length in zip(prompts, lengths, strict=True)]
        groups = [TokenBatch(group, torch.arange(group.shape[1], device=group.device)[None]) for group in prompts]
        return self.read_out.read(self.decoder, groups, lengths)

    def _prompts(self, texts: Sequence[Tensor], virtual: Tensor, lengths: Tensor) -> Tensor:
        """Put prefix, text and suffix together: [B, T, H].

        The suffix stands right after each row's own text; what follows it is padding that no real token sees.
        """
        embedded = self.backbone.embed(torch.nn.utils.rnn.pad_sequence(list(texts), batch_first=True))
        virtual = virtual.to(embedded.dtype)
        prefix, suffix = virtual[:, :-1], virtual[:, -1:]
        inputs = torch.cat([prefix, embedded, torch.zeros_like(suffix)], dim=1)
        return inputs.scatter(1, (lengths - 1)[:, None, None].expand(-1, 1, inputs.shape[2]), suffix)

    def _tokens(self, history: list[int]) -> Tensor:
        tokens = list(self.instruction)
        for number, item in enumerate(history, start=1):
            tokens += self.line(item, number)
        return torch.tensor(tokens, dtype=torch.int64)


def alike(lengths: Sequence[int], most: int) -> list[int]:
    """Return how many rows to take together, one group after the other: at most `most`, the longest at most `ALIKE` times the shortest.

    Args:
        lengths: tokens of each row, rising.
        most: rows of a group.
    """
    sizes: list[int] = []
    shortest = 0
    for length in lengths:
        if not sizes or sizes[-1] == most or length > ALIKE * shortest:
            sizes.append(0)
            shortest = length
        sizes[-1] += 1
    return sizes
