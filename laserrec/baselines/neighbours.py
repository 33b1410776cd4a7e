"""Items that were taken together with those of the history."""

from __future__ import annotations

from torch import Tensor

from laserrec.layers.neighbours import Neighbours


class ItemNeighbours:
    """Scores items by how often they were taken near those of the history.

    The history's own items get 0, as those that were never taken near any of them, so it can never recommend one. There is no penalty on
    seen items to choose: where they are ranked too, it misses whoever takes the same again.
    """

    name = "Item neighbours"
    trained_parameters = 0

    def __init__(self, neighbours: Neighbours) -> None:
        """Take counted neighbours."""
        self.neighbours = neighbours

    def scores(self, items: Tensor, mask: Tensor) -> Tensor:
        """Score the catalogue; see `Baseline`."""
        return self.neighbours.scores(items, mask)
