"""How much a new item is worth beside those that the sequential recommender knows: the cold-start bonus of its score.

A new item has the mean score of its nearest warm items, and the mean of several scores is seldom as high as one of them can be: new items
would hardly ever be among the first (docs/log.md). Known items tell how much is missing. A tenth of them is treated as cold, and the bonus
is where cross-entropy is smallest then: where the model expects those items as often as validation has them. Each tenth has its turn with
every case; with a long catalogue, with a tenth of the cases. Items that are really new are left out of it: validation seldom shows what
they are worth.

Dimensions: R cases, S history, N catalogue.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from laserrec.laser.scoring import GAIN
from laserrec.laser.system import LaserSystem
from laserrec.training.calibration import in_batches, minimise, pull
from laserrec.training.candidates import OTHERS

FOLDS = 10
"""Parts that the known items, and the cases, are divided into."""


def fit_cold_start_bonus(laser: LaserSystem, items: Tensor, mask: Tensor, targets: Tensor, *, seed: int = 0) -> None:
    """Fit the cold-start bonus; everything else stays as it is.

    Args:
        laser: its collaborative scores must be those that are fused in the end.
        items: histories, item indices int64 [R, S], padded on the right, on the system's device like what follows.
        mask: bool [R, S].
        targets: the item that followed each history, int64 [R].
        seed: of which items are treated as cold.
    """
    scorer, view = laser.model.scorer, laser.collaborative
    scorer.cold_start_bonus.zero_()
    known = view.scored.nonzero()[:, 0]
    if scorer.collaborative_weight is None or scorer.collaborative_weight <= 0 or len(known) < FOLDS:
        return
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(seed)).to(known.device)
    rows, taken = torch.arange(len(items), device=items.device).chunk(FOLDS), known[order].tensor_split(FOLDS)
    turns = [(part, taken[(place + turn) % FOLDS]) for turn in range(rounds(len(view.scored))) for place, part in enumerate(rows)]
    folds = [score_fold(laser, items[part], mask[part], targets[part], new) for part, new in turns]
    odds, wanted = torch.cat([odds for odds, _ in folds]), torch.cat([wanted for _, wanted in folds])
    if not wanted.any():  # nothing is known of new items then, but that they are rare
        return
    stored = torch.zeros((), device=odds.device, requires_grad=True)
    weight = GAIN * scorer.collaborative_weight.detach()

    def loss() -> Tensor:
        raised = odds + weight * GAIN * stored
        return (softplus(raised) - wanted * raised).sum() / (rounds(len(view.scored)) * len(items)) + pull(len(items)) * stored**2

    minimise(loss, [stored])
    scorer.cold_start_bonus.copy_(GAIN * stored.detach())


def rounds(count: int) -> int:
    """Return how often every case is scored, in a catalogue of so many items."""
    return FOLDS if count <= OTHERS else 1


def score_fold(laser: LaserSystem, items: Tensor, mask: Tensor, targets: Tensor, taken: Tensor) -> tuple[Tensor, Tensor]:
    """Treat items as cold: how likely one of them is next, as log odds, and whether one was; of the cases that say something."""
    warm, without = laser.collaborative.scored, laser.with_cold(taken)
    others = without.collaborative.scored.nonzero()[:, 0]
    parts = in_batches(len(warm), items, mask)
    odds = torch.cat([_log_odds(without, histories, real, taken, others) for histories, real in parts])
    telling = without.collaborative.informed(items, mask) & warm[targets]
    return odds[telling], torch.isin(targets[telling], taken)


@torch.no_grad()
def _log_odds(laser: LaserSystem, histories: Tensor, real: Tensor, taken: Tensor, others: Tensor) -> Tensor:
    """Return the logarithms of how much more likely one of the items treated as cold is to be next than one of the others, [R]."""
    logits = laser.model.scorer.combine(laser.score_terms(histories, real), histories, real)
    return logits[:, taken].logsumexp(1) - logits[:, others].logsumexp(1)
