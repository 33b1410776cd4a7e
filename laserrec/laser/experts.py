"""Router and query experts: which set of query tokens reads a history (paper §3.2), and how evenly they are used (§3.3.1).

Dimensions: B batch, S history, E experts, L tokens an expert, D width of the M-Former, W width of the collaborative states.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Routing:
    """Who was chosen, and how evenly.

    Attributes:
        chosen: the expert of each history, int64 [B].
        weight: the router's mean probability of that expert, float [B].
        balance: the load-balancing loss E · Σ_j f_j P_j over all items of the batch, a scalar; 1 when even.
        load: share of histories that chose each expert, float [E].
    """

    chosen: Tensor
    weight: Tensor
    balance: Tensor
    load: Tensor


class Router(nn.Module):
    """Chooses one query expert for a history: the one with the highest probability, averaged over the history's items."""

    def __init__(self, width: int, experts: int) -> None:
        """Build the linear map from collaborative states [.., W] to experts [.., E]."""
        super().__init__()
        self.experts = experts
        self.linear = nn.Linear(width, experts, bias=False)

    def forward(self, states: Tensor, mask: Tensor) -> Routing:
        """Route histories.

        Args:
            states: collaborative states [B, S, W].
            mask: bool [B, S], at least one True a row.
        """
        real = mask.unsqueeze(-1)
        probability = self.linear(states).softmax(dim=-1)
        weight_BE = (probability * real).sum(1) / real.sum(1)
        weight, chosen = weight_BE.max(dim=-1)
        items = probability[mask]
        top = nn.functional.one_hot(items.argmax(-1), self.experts).to(items.dtype).mean(0)
        balance = self.experts * (top * items.mean(0)).sum()
        load = nn.functional.one_hot(chosen, self.experts).to(items.dtype).mean(0)
        return Routing(chosen, weight, balance, load.detach())


class QueryExperts(nn.Module):
    """E sets of L trained query tokens."""

    def __init__(self, experts: int, length: int, width: int, routing: Literal["gated", "paper"]) -> None:
        """Draw the tokens, [E, L, D], at the deviation transformers start their embeddings from."""
        super().__init__()
        self.routing = routing
        self.tokens = nn.Parameter(torch.randn(experts, length, width) * 0.02)

    def forward(self, routing: Routing) -> Tensor:
        """Return the chosen sets [B, L, D].

        Under `paper` the choice is hard and the task loss never reaches the router. Under `gated` the tokens are multiplied by a gate
        that equals one but carries the gradient of the router's probability (straight-through).
        """
        # Not by indexing: its backward adds rows that chose the same expert from several threads, in whatever order they come.
        tokens = self.tokens.index_select(0, routing.chosen)
        if self.routing == "paper":
            return tokens
        gate = 1 + (routing.weight - routing.weight.detach())
        return tokens * gate[:, None, None]
