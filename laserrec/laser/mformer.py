"""M-Former: a mixture-of-experts querying transformer that turns collaborative states into prefix tokens (paper §3.2).

Departures, each a setting: the gate of `experts.py`; a trained "no history" memory for items and users without collaborative states;
normalisation before each branch, which trains without a long warm-up.

Dimensions: B batch, S history, L prefix tokens, D width of the M-Former, W width of the collaborative states, H width of the LLM.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from laserrec.config import MFormerConfig
from laserrec.laser.experts import QueryExperts, Router, Routing
from laserrec.layers.blocks import Attention, FeedForward


class MFormerBlock(nn.Module):
    """Self-attention of the queries, cross-attention to the collaborative states in every other block, feed-forward."""

    def __init__(self, width: int, heads: int, memory_width: int | None) -> None:
        """Build one block; it cross-attends when `memory_width` is given."""
        super().__init__()
        self.self_norm, self.self_attention = nn.LayerNorm(width), Attention(width, heads)
        self.cross_norm = nn.LayerNorm(width) if memory_width else None
        self.cross_attention = Attention(width, heads, kv_width=memory_width) if memory_width else None
        self.feed_norm, self.feed_forward = nn.LayerNorm(width), FeedForward(width, 4 * width)

    def forward(self, queries: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Transform queries [B, L, D] that read memory [B, S, W] where mask [B, S] is True."""
        normed = self.self_norm(queries)
        queries = queries + self.self_attention(normed, normed)
        if self.cross_attention is not None and self.cross_norm is not None:
            queries = queries + self.cross_attention(self.cross_norm(queries), memory, mask)
        return queries + self.feed_forward(self.feed_norm(queries))  # type: ignore[no-any-return]


class MFormer(nn.Module):
    """Router, query experts, Z blocks and the projection into the LLM's embedding space."""

    def __init__(self, config: MFormerConfig, length: int, memory_width: int, llm_width: int) -> None:
        """Build the module.

        Args:
            config: sizes and routing.
            length: L, tokens to produce.
            memory_width: W.
            llm_width: H.
        """
        super().__init__()
        self.drop_state = config.drop_state
        self.no_history = nn.Parameter(torch.randn(memory_width) * 0.02)
        self.router = Router(memory_width, config.experts)
        self.experts = QueryExperts(config.experts, length, config.width, config.routing)
        self.blocks = nn.ModuleList(
            MFormerBlock(config.width, config.heads, memory_width if place % 2 == 0 else None) for place in range(config.blocks)
        )
        self.norm = nn.LayerNorm(config.width)
        self.projection = nn.Linear(config.width, llm_width)

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Routing]:
        """Produce prefix tokens.

        Args:
            states: collaborative states [B, S, W].
            mask: True where a state is real, bool [B, S]; a row without any reads the "no history" memory.

        Returns:
            Prefix tokens [B, L, H] and how they were routed.
        """
        memory, mask = self._memory(states, mask)
        routing = self.router(memory, mask)
        queries = self.experts(routing)
        for block in self.blocks:
            queries = block(queries, memory, mask)
        return self.projection(self.norm(queries)), routing

    def _memory(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Put the trained memory where there is no history, and in training where it is dropped."""
        empty = ~mask.any(dim=1)
        if self.training and self.drop_state:
            empty = empty | (torch.rand(len(mask), device=mask.device) < self.drop_state)
        alone = torch.zeros_like(mask)
        alone[:, 0] = True
        memory = torch.where((empty[:, None] & alone)[..., None], self.no_history, states)
        return memory, torch.where(empty[:, None], alone, mask)


class LinearPrefix(nn.Module):
    """The mean collaborative state through one linear map: how CoLLM-like systems bring collaborative signals into an LLM."""

    def __init__(self, length: int, memory_width: int, llm_width: int) -> None:
        """Build the map W → L · H."""
        super().__init__()
        self.length = length
        self.projection = nn.Linear(memory_width, length * llm_width)

    def forward(self, states: Tensor, mask: Tensor) -> tuple[Tensor, None]:
        """Return prefix tokens [B, L, H] of states [B, S, W]; nothing is routed."""
        real = mask.unsqueeze(-1)
        mean = (states * real).sum(1) / real.sum(1).clamp(min=1)
        return self.projection(mean).unflatten(-1, (self.length, -1)), None
