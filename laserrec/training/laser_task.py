"""The two stages of training Laser (paper §3.3.2), as tasks of the one loop.

Stage 1 recomputes the item matrix at the start of each epoch and trains the user side against it; the epoch that validates best gives
the weights Â and the matrix Î. Stage 2 starts from Â and trains further against the fixed Î. The two differ in that refresh alone.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from laserrec.data.dataset import Cases
from laserrec.data.ragged import Ragged
from laserrec.evaluation.metrics import Evaluation, evaluate
from laserrec.laser.system import LaserSystem
from laserrec.layers.histories import padded
from laserrec.training.calibration import CASES, calibrate
from laserrec.training.loop import Step


class LaserTask:
    """Training Laser on next-item cases drawn from training histories."""

    def __init__(
        self,
        laser: LaserSystem,
        histories: Ragged,
        valid: Cases,
        *,
        balance: float,
        positions: int,
        refresh: bool,
        seed: int,
        calibrated: bool = False,
    ) -> None:
        """Put a task together.

        Args:
            laser: the system; its model is trained in place.
            histories: training histories; those with one item are left out.
            valid: the cases that choose the best epoch.
            balance: λ of the load-balancing loss.
            positions: targets are drawn from the last this many positions of a history, so that the sequential recommender, which was not
                trained on them, can be trusted neither too much nor too little; 0 draws from all positions.
            refresh: recompute the item matrix at the start of each epoch (stage 1).
            seed: of the positions drawn.
            calibrated: fit the score's scalars before the first epoch.
        """
        self.laser, self.valid, self.balance, self.positions, self.refresh, self.seed = laser, valid, balance, positions, refresh, seed
        self.calibrated = calibrated
        # As wrong answers alone, new items would teach that texts like theirs are wrong.
        absent = histories.absent(len(laser.model.item_states))
        self.left_out = torch.from_numpy(absent).to(laser.device)
        self.histories = histories.take(np.flatnonzero(histories.lengths > 1))

    @property
    def module(self) -> nn.Module:
        """The trained part of Laser, the item matrix among its buffers."""
        return self.laser.model

    def __len__(self) -> int:
        return len(self.histories)

    def start_epoch(self, epoch: int) -> None:
        """Recompute the item matrix with the present weights, in stage 1, and once find where the score's scalars start."""
        if self.refresh:
            self.laser.refresh()
        if self.calibrated and epoch == 1:
            rows = np.random.default_rng(self.seed).permutation(len(self))[:CASES]
            histories, targets = self._cut(rows, epoch)
            calibrate(self.laser, *padded(histories, self.laser.device), targets, self.left_out, seed=self.seed)
        self.module.train()

    def step(self, rows: Tensor, epoch: int) -> Step:
        """Contrastive loss over all items with a training event, plus λ times the balance loss (paper §3.3.1)."""
        histories, targets = self._cut(rows.numpy(), epoch)
        items, mask = padded(histories, self.laser.device)
        logits, routing = self.laser.logits(items, mask)
        contrastive = cross_entropy(logits.index_fill(1, self.left_out, -torch.inf), targets)
        scalars = {"contrastive": float(contrastive.detach()), "scale": float(self.laser.model.scorer.scale.detach())}
        if routing is None:
            return Step(contrastive, scalars, len(rows))
        scalars |= {"balance": float(routing.balance.detach())} | {
            f"expert_load/{e}": share for e, share in enumerate(routing.load.tolist())
        }
        return Step(contrastive + self.balance * routing.balance, scalars, len(rows))

    def validate(self) -> dict[str, float]:
        """Rank the catalogue for the validation cases, seen items not excluded."""
        return _validated(self.laser, self.valid).metrics("full")

    def _cut(self, rows: NDArray[np.int64], epoch: int) -> tuple[Ragged, Tensor]:
        """Draw one target a history, a function of (seed, epoch, row) alone, and return what stands before it."""
        chosen = self.histories.take(rows)
        choices = chosen.lengths - 1 if not self.positions else np.minimum(chosen.lengths - 1, self.positions)
        draws = np.array([np.random.default_rng((self.seed, epoch, int(row))).integers(c) for row, c in zip(rows, choices, strict=True)])
        places = chosen.lengths - 1 - draws
        targets = torch.from_numpy(chosen.values[chosen.offsets[:-1] + places]).to(self.laser.device)
        return Ragged.from_rows([history[:place] for history, place in zip(chosen, places, strict=True)]), targets


def validation_score(laser: LaserSystem, cases: Cases, metric: str) -> float:
    """Return one metric of a system on cases, seen items not excluded."""
    return float(_validated(laser, cases).per_case(metric).mean())


def _validated(laser: LaserSystem, cases: Cases) -> Evaluation:
    return evaluate(laser.prepared().scores, cases, device=laser.device)
