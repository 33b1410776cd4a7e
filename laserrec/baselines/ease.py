"""EASE (Steck, WWW 2019): each item predicted from the others a user took, by one linear system with a closed solution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laserrec.baselines.closed_form import ClosedForm

if TYPE_CHECKING:
    from laserrec.layers.item_weights import ItemWeights, SparseWeights
    from laserrec.training.context import FitContext


def _solve(context: FitContext) -> ItemWeights | SparseWeights:
    from laserrec.training.ease import fit_ease

    return fit_ease(context.histories, len(context.data.item_ids))


EASE = ClosedForm("ease", "EASE", "each item predicted from the others a user took, in closed form", _solve)
