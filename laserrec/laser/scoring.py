"""From two embeddings to a score: cosine over the catalogue (paper §3.1.2, §3.3.1), and the terms that laserrec adds to it.

    score(u, i) = scale · cos(A ĥ_u, A ĥ_i) + κ · n(u, i) + γ · c(u, i) − δ · [i in u's history]

ĥ is the standardised state, A the linear read-out, n how near the item is to those of the history by their ĥ (`neighbours`), c the
collaborative score, of a new item with its lift (`collaborative`). With everything switched off this is the paper's
cos(h_u, h_i) / τ.

Dimensions: B batch, S history, N catalogue, H width of the LLM.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from laserrec.config import ScoreConfig
from laserrec.layers.histories import lower_seen

RIDGE = 0.1
"""Added to the variances along directions, 1 in the mean, so that those in which the items hardly differ stay small."""
GAIN = 10.0
"""Adam moves a parameter by about the learning rate a step; the four scalars, stored divided by this, follow ten times faster."""

NEARNESS, TRUST, PENALTY = 0.1, 1.0, 2.0
"""κ, γ and δ at the start; all three are trained, and first fitted on training targets."""


class ScoreTerms(NamedTuple):
    """What a score is made of; None for a term that is switched off.

    Attributes:
        cosines: of a history's and every item's direction, [B, N].
        near: n(u, i), [B, N].
        collaborative: c(u, i), [B, N].
    """

    cosines: Tensor
    near: Tensor | None
    collaborative: Tensor | None

    def of(self, items: Tensor) -> ScoreTerms:
        """Return what the scores of some items, int64 [n], are made of."""
        near, collaborative = (None if term is None else term[:, items] for term in (self.near, self.collaborative))
        return ScoreTerms(self.cosines[:, items], near, collaborative)


class Scorer(nn.Module):
    """Scores the whole catalogue for each embedded history."""

    mean: Tensor
    mixing: Tensor
    lift: Tensor

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
        self.trust = nn.Parameter(torch.tensor(TRUST / GAIN)) if config.fuse_collaborative else None
        self.nearness = nn.Parameter(torch.tensor(NEARNESS / GAIN)) if config.nearest else None
        self.penalty = nn.Parameter(torch.tensor(PENALTY / GAIN)) if config.seen_penalty else None
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("mixing", torch.eye(width))
        # Of new items' collaborative scores (`collaborative`), in deviations.
        self.register_buffer("lift", torch.tensor(config.new_items or 0.0))

    @property
    def scale(self) -> Tensor:
        """1/τ."""
        return (self.log_scale * GAIN).exp()

    @property
    def scalars(self) -> list[nn.Parameter]:
        """Those of 1/τ, κ, γ and δ that are trained, as they are stored."""
        return [
            scalar for scalar in (self.log_scale, self.nearness, self.trust, self.penalty) if scalar is not None and scalar.requires_grad
        ]

    @torch.no_grad()
    def measure(self, items: Tensor) -> None:
        """Take from raw item states [N, H] where the catalogue lies and how it spreads; nothing where standardising is switched off.

        Each coordinate is scaled to deviation 1, and of the covariance C that is left the inverse fourth root is applied: it halves, on a
        logarithmic scale, the differences in strength between directions. A language model's states differ mostly in a few that say little.
        """
        if not self.standardise:
            return
        self.mean.copy_(items.mean(0))
        # One copy, changed in place. Sums over parts of the catalogue would need none, and end in other last bits.
        exact = (items.cpu() if items.device.type == "mps" else items).to(torch.float64, copy=True)  # mps has no float64
        exact -= exact.mean(0)
        scale = exact.std(0, correction=0).clamp(min=1e-6)
        exact /= scale
        values, directions = torch.linalg.eigh(exact.T @ exact / len(items))
        root = directions * (values.clamp(min=0) + RIDGE).pow(-0.25) @ directions.T
        self.mixing.copy_(root / scale[:, None])

    def standard(self, states: Tensor) -> Tensor:
        """Centre, scale and even out raw states [.., H] as the catalogue was measured; leave them raw where that is switched off."""
        return (states - self.mean) @ self.mixing if self.standardise else states

    def directing(self) -> Callable[[Tensor], Tensor]:
        """Return what turns raw states [.., H] into the unit vectors that are compared.

        It is made of the present weights and measures: ask for another one when they change, what this one then gives is undefined.
        """
        mean, mixing = (self.mean, self.mixing) if self.standardise else (None, None)
        if self.read_out is not None:  # the two maps as one: a catalogue is multiplied once
            mixing = self.read_out.T if mixing is None else mixing @ self.read_out.T

        def direct(states: Tensor) -> Tensor:
            states = states if mean is None else states - mean
            return normalize(states if mixing is None else states @ mixing, dim=-1)

        return direct

    def forward(
        self, users: Tensor, items: Tensor, near: Tensor | None, collaborative: Tensor | None, history: Tensor, mask: Tensor
    ) -> Tensor:
        """Score all items for each history.

        Args:
            users: raw embeddings of histories [B, H].
            items: raw embeddings of the catalogue [N, H].
            near: scores of the items' neighbours by text [B, N], where they count.
            collaborative: scores of the collaborative model [B, N], where they are fused.
            history: the histories' item indices int64 [B, S]; those beyond the catalogue are texts that cannot be recommended.
            mask: bool [B, S].

        Returns:
            Scores [B, N]; their softmax is the model's distribution over the next item.
        """
        direct = self.directing()
        return self.combine(ScoreTerms(direct(users) @ direct(items).T, near, collaborative), history, mask)

    def combine(self, evidence: ScoreTerms, history: Tensor, mask: Tensor) -> Tensor:
        """Add up the terms of a score [B, N]; everything else as in `forward`."""
        scores = self.scale * evidence.cosines
        for weight, term in ((self.nearness, evidence.near), (self.trust, evidence.collaborative)):
            if weight is not None and term is not None:
                scores = torch.addcmul(scores, GAIN * weight, term)
        return scores if self.penalty is None else lower_seen(scores, history, mask, GAIN * self.penalty)

    def terms(self, evidence: ScoreTerms, bonus: Tensor, seen: Tensor) -> Tensor:
        """Return one by one what `combine` adds up, for some items.

        Args:
            evidence: of A items, its collaborative scores without the cold-start bonus.
            bonus: the bonus that each of these scores gets, in standard deviations [B, A].
            seen: which of the items the history holds, bool [B, A].

        Returns:
            The terms [5, B, A] of the language model, nearness, the collaborative score, the cold-start bonus and the seen penalty; zeros
            for one that is switched off.
        """
        nothing = torch.zeros_like(evidence.cosines)
        weighted = [self.scale * evidence.cosines]
        for weight, term in ((self.nearness, evidence.near), (self.trust, evidence.collaborative), (self.trust, bonus)):
            weighted.append(nothing if weight is None or term is None else GAIN * weight * term)
        weighted.append(nothing if self.penalty is None else torch.where(seen, -GAIN * self.penalty, nothing))
        return torch.stack(weighted) + 0.0  # no term is -0.0
