"""Scoring with a system whose weights stay as they are: what no history changes is computed a single time.

Dimensions: B batch, S history, N catalogue, H width of the LLM.
"""

from __future__ import annotations

import torch
from torch import Tensor

from laserrec.laser.scoring import Evidence
from laserrec.laser.system import LaserSystem
from laserrec.layers.products import products


class Ranker:
    """A view of a system for requests and evaluation; make another one when weights change or items come.

    Attributes:
        directions: unit vectors of the item matrix, [N, H], which training computes anew at every step.
    """

    @torch.no_grad()
    def __init__(self, system: LaserSystem) -> None:
        """Put the system into evaluation mode and prepare its catalogue."""
        system.model.eval()
        self._system = system
        self._direct = system.model.scorer.directing()
        self.directions = self._direct(system.model.item_states)

    @torch.no_grad()
    def scores(self, items: Tensor, mask: Tensor, states: Tensor | None = None) -> Tensor:
        """Score the whole catalogue after histories, as `LaserSystem.scores` does.

        Args:
            items: int64 [B, S].
            mask: bool [B, S].
            states: how the language model read the histories, [B, H]; it reads them when None.

        Returns:
            Scores [B, N].
        """
        system = self._system
        users = self._direct(system.users(items, mask) if states is None else states)
        found = Evidence(products(users, self.directions), *system.beside(items, mask))
        return system.model.scorer.combine(found, items, mask)
