"""Items that were taken together with those of the history."""

from __future__ import annotations

from torch import Tensor

from laserrec.nn.neighbours import Neighbours


class ItemNeighbours:
    """Scores items by how often they were taken near those of the history; its own items get nothing, as those that never were."""

    name = "Item neighbours"
    trained_parameters = 0

    def __init__(self, neighbours: Neighbours) -> None:
        """Take counted neighbours."""
        self.neighbours = neighbours

    def scores(self, items: Tensor, mask: Tensor) -> Tensor:
        """Score the catalogue; see `Baseline`."""
        return self.neighbours.scores(items, mask)
