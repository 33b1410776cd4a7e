"""Items that were taken together with those of the history: counting, the oldest recommender there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laserrec.baselines.closed_form import ClosedForm

if TYPE_CHECKING:
    from laserrec.layers.neighbours import Neighbours
    from laserrec.training.context import FitContext


def _count(context: FitContext) -> Neighbours:
    from laserrec.training.neighbours import count_neighbours

    return count_neighbours(context.histories, len(context.data.item_ids))


ITEM_NEIGHBOURS = ClosedForm("item-knn", "Item neighbours", "items that were taken near those of the history, counted", _count)
