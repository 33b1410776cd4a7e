"""From two embeddings to a score: cosine over the catalogue (paper §3.1.2, §3.3.1), and the terms that laserrec adds to it.

    score(u, i) = scale · cos(A ĥ_u, A ĥ_i) + γ · c(u, i) − δ · [i in u's history]

ĥ is the standardised state, A the linear read-out, c the collaborative score. With everything switched off this is the paper's
cos(h_u, h_i) / τ.

Dimensions: B batch, S history, N catalogue, H width of the LLM.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from laserrec.config import ScoreConfig
from laserrec.nn.histories import lower_seen

GAIN = 10.0
"""Adam moves a parameter by about the learning rate a step; the three scalars, stored divided by this, follow ten times faster."""


class Scorer(nn.Module):
    """Scores the whole catalogue for each embedded history."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: ScoreConfig, width: int) -> None:
        """Build the scorer.

        Args:
            config: which terms there are, and where they start.
            width: H.
        """
        super().__init__()
        self.standardise = config.standardise
        self.log_scale = nn.Parameter(torch.tensor(-math.log(config.temperature) / GAIN), requires_grad=config.learn_temperature)
        self.read_out = nn.Parameter(torch.eye(width)) if config.linear_read_out else None
        self.trust = nn.Parameter(torch.tensor(config.trust / GAIN)) if config.fuse_collaborative else None
        self.penalty = nn.Parameter(torch.tensor(config.penalty / GAIN)) if config.seen_penalty else None
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    @property
    def scale(self) -> Tensor:
        """1/τ."""
        return (self.log_scale * GAIN).exp()

    @property
    def scalars(self) -> list[nn.Parameter]:
        """Those of 1/τ, γ and δ that are trained, as they are stored."""
        return [scalar for scalar in (self.log_scale, self.trust, self.penalty) if scalar is not None and scalar.requires_grad]

    def measure(self, items: Tensor) -> None:
        """Take the catalogue's mean and deviation of each coordinate from raw item states [N, H]."""
        self.mean.copy_(items.mean(0))
        self.deviation.copy_(items.std(0, correction=0).clamp(min=1e-6))

    def standard(self, states: Tensor) -> Tensor:
        """Centre and scale raw states [.., H] as the catalogue was measured; leave them raw where that is switched off."""
        return (states - self.mean) / self.deviation if self.standardise else states

    def directions(self, states: Tensor) -> Tensor:
        """Turn raw states [.., H] into the unit vectors whose products are compared."""
        states = self.standard(states)
        if self.read_out is not None:
            states = states @ self.read_out.T
        return normalize(states, dim=-1)

    def forward(self, users: Tensor, items: Tensor, collaborative: Tensor | None, history: Tensor, mask: Tensor) -> Tensor:
        """Score all items for each history.

        Args:
            users: raw embeddings of histories [B, H].
            items: raw embeddings of the catalogue [N, H].
            collaborative: scores of the collaborative model [B, N], where they are fused.
            history: the histories' item indices int64 [B, S]; those beyond the catalogue are texts that cannot be recommended.
            mask: bool [B, S].

        Returns:
            Scores [B, N]; their softmax is the model's distribution over the next item.
        """
        return self.combine(self.directions(users) @ self.directions(items).T, collaborative, history, mask)

    def combine(self, cosines: Tensor, collaborative: Tensor | None, history: Tensor, mask: Tensor) -> Tensor:
        """Add the terms of a score, given cosines [B, N]; everything else as in `forward`."""
        scores = self.scale * cosines
        if self.trust is not None and collaborative is not None:
            scores = torch.addcmul(scores, GAIN * self.trust, collaborative)
        return scores if self.penalty is None else lower_seen(scores, history, mask, GAIN * self.penalty)
