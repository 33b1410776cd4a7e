"""Types that the decoder, its attention and a text cache exchange: cached contexts, and buckets of rows of similar length.

Dimensions: B rows of a bucket, Q new tokens, T context tokens, G key/value heads, R query heads per key/value head, C head width, M all
tokens of all buckets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from laserrec.llm.kernels import Kernels, RotaryAngles

QUERY_BLOCK = 64
"""Queries whose scores are computed at a time, so that little of the upper triangle of a causal mask is computed in vain."""


class Context(Protocol):
    """Earlier tokens that new tokens attend to."""

    @property
    def positions(self) -> Tensor:
        """Where each context token stands, int64 [B, T]."""

    @property
    def mask(self) -> Tensor:
        """True where a context token is real, bool [B, T]."""

    @property
    def padded(self) -> bool:
        """Whether any context token is not."""

    def layer(self, index: int, room: int) -> Tensor:
        """Return a layer's keys before rotation and values, [B, 2, G, T + room, C]; the last `room` places may hold anything."""


@dataclass(frozen=True)
class LengthBucket:
    """Rows with the same number of new tokens.

    Attributes:
        start: where its tokens begin among all M.
        rows: B.
        length: Q.
        angles: of the new tokens.
        context: what they attend to beside each other.
        context_angles: of the context's tokens; None without a context.
        padded: some rows have fewer than T context tokens.
    """

    start: int
    rows: int
    length: int
    angles: RotaryAngles
    context: Context | None
    context_angles: RotaryAngles | None
    padded: bool

    @property
    def end(self) -> int:
        """Where its tokens end among all M."""
        return self.start + self.rows * self.length

    @cached_property
    def query_angles(self) -> RotaryAngles:
        """Angles of the new tokens, their sines and cosines multiplied by the attention's scale, C^-½."""
        cosine, sine = self.angles
        scale = (2 * cosine.shape[-1]) ** -0.5
        return cosine * scale, sine * scale

    def take(self, states: Tensor, head_width: int) -> Tensor:
        """Return its tokens of states [M, N·C] as [B, Q, N, C]."""
        return states[self.start : self.end].view(self.rows, self.length, -1, head_width)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Return the blocks of queries, the last first: it sees all keys."""
        starts = range(0, self.length, QUERY_BLOCK)
        return ((start, min(start + QUERY_BLOCK, self.length)) for start in reversed(starts))

    def keys_values(self, layer: int, key: Tensor, value: Tensor, kernels: Kernels) -> tuple[Tensor, Tensor]:
        """Lay context and new tokens one after the other: keys, rotated, and values, [B·G, T + Q, C] each.

        Args:
            layer: which one.
            key: of the new tokens, before rotation, [B, Q, G, C].
            value: [B, Q, G, C].
            kernels: how to rotate.
        """
        keys = kernels.rotate(key, *self.angles)
        values = value.transpose(1, 2)
        if self.context is not None and self.context_angles is not None:
            both = self.context.layer(layer, self.length).to(key.dtype)
            kernels.rotate_in_place(both[:, 0, :, : -self.length], *self.context_angles)
            both[:, 0, :, -self.length :] = keys
            both[:, 1, :, -self.length :] = values
            keys, values = both.unbind(1)
        return keys.flatten(0, 1), values.flatten(0, 1)

    def hide(self, scores: Tensor, start: int, end: int, kv_heads: int) -> None:
        """Mask scores [B·G, R·n, T + end], in place: later tokens and padding, for queries `start` to `end`."""
        count, context = end - start, scores.shape[2] - end
        if count > 1:
            later = _later(count, scores.shape[1] // count, scores.device)
            scores[:, :, context + start :].masked_fill_(later, -torch.inf)
        if self.padded and self.context is not None:
            far = scores.view(self.rows, kv_heads, *scores.shape[1:])[..., :context]
            far.masked_fill_(~self.context.mask[:, None, None, :], -torch.inf)


@lru_cache
def _later(count: int, repeats: int, device: torch.device) -> Tensor:
    """Return which tokens stand behind each of `count`, bool [repeats · count, count]."""
    return torch.ones(count, count, dtype=torch.bool, device=device).triu(1).repeat(repeats, 1)


@dataclass(frozen=True)
class CachedContext:
    """Blocks that a batch of rows attends to, in place.

    The blocks stay where they are while this object lives: keep it as long as its rows are read.

    Attributes:
        rows: where the blocks lie among others, [rows, 2, G, C].
        index: each token's row at the first layer, int64 [B, T].
        stride: from one layer's row to the next one's, the number of tokens in its block, int64 [B, T].
        positions: where each token stands, int64 [B, T].
        mask: True where a token is real, bool [B, T]; those come first.
        padded: whether any is not.
    """

    rows: Tensor
    index: Tensor
    stride: Tensor
    positions: Tensor
    mask: Tensor
    padded: bool

    def layer(self, index: int, room: int = 0) -> Tensor:
        """Return a layer's keys before rotation and values, a head's tokens side by side, with room for further tokens behind them.

        Args:
            index: which layer.
            room: number of further tokens; what stands in their places is anything.

        Returns:
            [B, 2, G, T + room, C], the caller's own.
        """
        shape = self.rows.shape[1:]
        if not len(self.rows):
            return self.rows.new_empty(len(self.index), *shape[:2], room, shape[2])
        first, step, inside = self._places
        places = pad(torch.add(first, step, alpha=index), (0, room))[:, None] + inside
        return self.rows.view(-1, shape[2]).index_select(0, places.flatten()).view(len(first), *shape[:2], -1, shape[2])

    @cached_property
    def _places(self) -> tuple[Tensor, Tensor, Tensor]:
        """Where each token's first head stands at the first layer and how far it is to the next layer's, [B, T], and the heads' numbers."""
        heads = self.rows.shape[1] * self.rows.shape[2]
        return self.index * heads, self.stride * heads, torch.arange(heads, device=self.index.device)[:, None]

    @cached_property
    def ends(self) -> Tensor:
        """Number of context tokens of each row, where the next token stands: int64 [B]."""
        return self.mask.sum(1)
