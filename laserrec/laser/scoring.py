"""From two embeddings to a score: cosine over the catalogue (paper §3.1.2, §3.3.1), and the terms that laserrec adds to it.

    score(u, i) = scale · cos(A ĥ_u, A ĥ_i) + κ · n(u, i) + ω · l(u, i) + γ · c(u, i) − δ · [i in u's history]

ĥ is the standardised state, A the linear read-out, n how near the item is to those of the history by their ĥ (`neighbours`), l how many
words they share (`lexical`), c the collaborative score, for a cold item with its cold-start bonus (`collaborative`). With everything
switched off this is the paper's cos(h_u, h_i) / τ.

Dimensions: B batch, S history, N catalogue, H width of the LLM.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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

NEIGHBOUR_WEIGHT = 0.1
LEXICAL_WEIGHT = 1.0
COLLABORATIVE_WEIGHT = 1.0
SEEN_PENALTY = 2.0
"""κ, ω, γ and δ at the start; all are trained, and first fitted on training targets."""


class ScoreTerms(NamedTuple):
    """What a score is made of; None for a term that is switched off.

    Attributes:
        cosines: of a history's and every item's direction, [B, N].
        neighbours: n(u, i), [B, N].
        lexical: l(u, i), [B, N].
        collaborative: c(u, i), [B, N].
    """

    cosines: Tensor
    neighbours: Tensor | None
    lexical: Tensor | None
    collaborative: Tensor | None

    def of(self, items: Tensor) -> ScoreTerms:
        """Return what the scores of some items, int64 [n], are made of."""
        return ScoreTerms(self.cosines[:, items], *(None if term is None else term[:, items] for term in self[1:]))


class Scorer(nn.Module):
    """Scores the whole catalogue for each embedded history."""

    mean: Tensor
    whitening: Tensor
    cold_start_bonus: Tensor

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
        self.collaborative_weight = nn.Parameter(torch.tensor(COLLABORATIVE_WEIGHT / GAIN)) if config.fuse_collaborative else None
        self.neighbour_weight = nn.Parameter(torch.tensor(NEIGHBOUR_WEIGHT / GAIN)) if config.nearest else None
        self.lexical_weight = nn.Parameter(torch.tensor(LEXICAL_WEIGHT / GAIN)) if config.lexical else None
        self.seen_penalty = nn.Parameter(torch.tensor(SEEN_PENALTY / GAIN)) if config.seen_penalty else None
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("whitening", torch.eye(width))
        # Added to cold items' collaborative scores, in standard deviations.
        self.register_buffer("cold_start_bonus", torch.tensor(config.cold_start_bonus or 0.0))

    @property
    def scale(self) -> Tensor:
        """1/τ."""
        return (self.log_scale * GAIN).exp()

    @property
    def scalars(self) -> list[nn.Parameter]:
        """Those of 1/τ, κ, ω, γ and δ that are trained, as they are stored."""
        every = self.log_scale, self.neighbour_weight, self.lexical_weight, self.collaborative_weight, self.seen_penalty
        return [scalar for scalar in every if scalar is not None and scalar.requires_grad]

    @torch.no_grad()
    def fit_whitening(self, items: Tensor) -> None:
        """Fit mean and partial whitening to raw item states [N, H]; do nothing where standardising is switched off.

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
        self.whitening.copy_(root / scale[:, None])

    def standard(self, states: Tensor) -> Tensor:
        """Centre and whiten raw states [.., H] as fitted to the catalogue; leave them raw where that is switched off."""
        return (states - self.mean) @ self.whitening if self.standardise else states

    def projection(self) -> Callable[[Tensor], Tensor]:
        """Return what turns raw states [.., H] into the unit vectors that are compared.

        It is made of the present weights and whitening: ask for another one when they change, what this one then gives is undefined.
        """
        mean, whitening = (self.mean, self.whitening) if self.standardise else (None, None)
        if self.read_out is not None:  # the two maps as one: a catalogue is multiplied once
            whitening = self.read_out.T if whitening is None else whitening @ self.read_out.T

        def direct(states: Tensor) -> Tensor:
            states = states if mean is None else states - mean
            return normalize(states if whitening is None else states @ whitening, dim=-1)

        return direct

    def forward(self, users: Tensor, items: Tensor, others: Sequence[Tensor | None], history: Tensor, mask: Tensor) -> Tensor:
        """Score all items for each history.

        Args:
            users: raw embeddings of histories [B, H].
            items: raw embeddings of the catalogue [N, H].
            others: the terms beside the cosines, in the order of `ScoreTerms`, each [B, N] or None.
            history: the histories' item indices int64 [B, S]; those beyond the catalogue are texts that cannot be recommended.
            mask: bool [B, S].

        Returns:
            Scores [B, N]; their softmax is the model's distribution over the next item.
        """
        direct = self.projection()
        return self.combine(ScoreTerms(direct(users) @ direct(items).T, *others), history, mask)

    def combine(self, terms: ScoreTerms, history: Tensor, mask: Tensor) -> Tensor:
        """Add up the terms of a score [B, N]; everything else as in `forward`."""
        scores = self.scale * terms.cosines
        for weight, term in zip(self._weights, terms[1:], strict=True):
            if weight is not None and term is not None:
                scores = torch.addcmul(scores, GAIN * weight, term)
        return scores if self.seen_penalty is None else lower_seen(scores, history, mask, GAIN * self.seen_penalty)

    @property
    def _weights(self) -> tuple[nn.Parameter | None, ...]:
        """κ, ω and γ as they are stored, in the order of `ScoreTerms`."""
        return self.neighbour_weight, self.lexical_weight, self.collaborative_weight

    def weighted_terms(self, terms: ScoreTerms, bonus: Tensor, seen: Tensor) -> Tensor:
        """Return one by one what `combine` adds up, for some items.

        Args:
            terms: of A items, its collaborative scores without the cold-start bonus.
            bonus: the bonus that each of these scores gets, in standard deviations [B, A].
            seen: which of the items the history holds, bool [B, A].

        Returns:
            The terms [6, B, A] of the language model, neighbours, shared words, the collaborative score, the cold-start bonus and the seen
            penalty; zeros for one that is switched off.
        """
        nothing = torch.zeros_like(terms.cosines)
        weighted = [self.scale * terms.cosines]
        for weight, term in zip((*self._weights, self.collaborative_weight), (*terms[1:], bonus), strict=True):
            weighted.append(nothing if weight is None or term is None else GAIN * weight * term)
        weighted.append(nothing if self.seen_penalty is None else torch.where(seen, -GAIN * self.seen_penalty, nothing))
        return torch.stack(weighted) + 0.0  # no term is -0.0
