"""Attention and the transformer block of the sequential recommenders; the M-Former uses the same attention.

Knows nothing of items or histories. Legend: B batch, Q queries, S keys, D width, A attention heads.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class Attention(nn.Module):
    """Multi-head attention of queries to themselves or to another sequence."""

    def __init__(self, width: int, heads: int, *, kv_width: int | None = None, dropout: float = 0.0) -> None:
        """Build the four projections.

        Args:
            width: width of the queries and of the output, a multiple of `heads`.
            heads: attention heads.
            kv_width: width of the sequence attended to; `width` when unset.
            dropout: share of attention weights dropped in training.
        """
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(kv_width or width, width)
        self.value = nn.Linear(kv_width or width, width)
        self.output = nn.Linear(width, width)

    def forward(self, queries: Tensor, memory: Tensor, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
        """Mix the values of `memory` for each query.

        Args:
            queries: float [B, Q, D].
            memory: float [B, S, kv_width], where keys and values come from.
            mask: bool, True where a query may look, [B, S] or [B, Q, S]; everywhere when unset. A query that may look nowhere gets zeros.
            causal: a query sees only the keys up to its own place; excludes `mask`.

        Returns:
            float [B, Q, D].
        """
        query_BAQE, key_BASE, value_BASE = (
            projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projected in (self.query(queries), self.key(memory), self.value(memory))
        )
        if mask is not None:
            mask = mask[:, None, None] if mask.dim() == 2 else mask[:, None]
        mixed_BAQE = scaled_dot_product_attention(
            query_BAQE, key_BASE, value_BASE, attn_mask=mask, is_causal=causal, dropout_p=self.dropout if self.training else 0.0
        )
        mixed: Tensor = self.output(mixed_BAQE.transpose(1, 2).flatten(-2))
        return mixed


class FeedForward(nn.Sequential):
    """Two linear maps with GELU between."""

    def __init__(self, width: int, inner: int, *, dropout: float = 0.0) -> None:
        """Build width → inner → width, with dropout on the inner states."""
        super().__init__(nn.Linear(width, inner), nn.GELU(), nn.Dropout(dropout), nn.Linear(inner, width))


class Block(nn.Module):
    """Self-attention and feed-forward, each with dropout, a residual and layer normalisation."""

    def __init__(
        self, width: int, heads: int, *, inner: int | None = None, dropout: float = 0.0, norm: Literal["before", "after"] = "after"
    ) -> None:
        """Build one block.

        Args:
            width: width of the states.
            heads: attention heads.
            inner: width inside the feed-forward; four times `width` when unset.
            dropout: of attention weights, inner states and both residual branches.
            norm: normalise each branch's input ("before") or each residual sum ("after").
        """
        super().__init__()
        self.norm = norm
        self.attention = Attention(width, heads, dropout=dropout)
        self.feed_forward = FeedForward(width, inner or 4 * width, dropout=dropout)
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
        """Transform states [B, S, D]; `mask` and `causal` as in `Attention`."""
        if self.norm == "before":
            normed = self.attention_norm(states)
            states = states + self.dropout(self.attention(normed, normed, mask, causal=causal))
            transformed: Tensor = states + self.dropout(self.feed_forward(self.feed_forward_norm(states)))
            return transformed
        states = self.attention_norm(states + self.dropout(self.attention(states, states, mask, causal=causal)))
        transformed = self.feed_forward_norm(states + self.dropout(self.feed_forward(states)))
        return transformed


def initialise(module: nn.Module, deviation: float = 0.02) -> None:
    """Draw starting weights with torch's global generator.

    | part | start |
    |---|---|
    | linear and embedding weights | normal, `deviation` |
    | linear biases | 0 |
    | layer normalisation | scale 1, shift 0 |
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=deviation)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
