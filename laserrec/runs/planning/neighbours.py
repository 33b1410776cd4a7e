"""What neighbours take: counting them, blending them, finding them by text; each tried on a part of the work.

Dimensions: N catalogue, H width of the item states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from laserrec.data.dataset import Cases
from laserrec.data.ragged import Ragged
from laserrec.layers.neighbours import COUNT, HELD, Neighbours, found_at_once, nearest
from laserrec.runs.planning.probe import enough, seconds_of, some
from laserrec.sequential.base import SequentialRecommender
from laserrec.training.calibration import CASES as FITTED_CASES
from laserrec.training.candidates import OTHERS
from laserrec.training.neighbours import PAIRS_HELD, REACH, blend, count_neighbours

EVENTS, ROWS, CASES = 20_000, 128, 64
"""Of a trial."""
TABLE_BYTES = 8 * COUNT
"""Of an item's neighbours, in memory and in a model folder."""
PAIR_BYTES = 80
"""Of a pair while pairs are added up, about."""
FITTED = 5
"""Scores an item and case while shares are fitted: two that are blended, and what gradients take."""


@dataclass(frozen=True)
class NeighbourCost:
    """What neighbours by events take.

    Attributes:
        counting: seconds of counting them once.
        blending: seconds of blending them into one ensemble.
        memory: bytes of the table, and of counting or blending beside it.
    """

    counting: float = 0.0
    blending: float = 0.0
    memory: int = 0


def try_neighbours(histories: Ragged, catalogue_size: int, members: Sequence[SequentialRecommender], cases: Cases) -> NeighbourCost:
    """Count the neighbours of some histories, and blend them.

    Args:
        histories: training histories.
        catalogue_size: N.
        members: of an ensemble's number and size, however trained; none where nothing is blended.
        cases: of validation.
    """
    events, tables = len(histories.values), list[Neighbours]()
    tried = histories.take(some(len(histories), -(-len(histories) * EVENTS // max(events, 1))))
    counting = seconds_of(lambda: tables.append(count_neighbours(tried, catalogue_size))) * events / max(len(tried.values), 1)
    # Parts end where an item ends, so all events of the one that has most may lie in one part, beside those that it is meant for.
    pairs = min(2 * REACH * events, PAIRS_HELD + 2 * REACH * int(np.bincount(histories.values, minlength=1).max()))
    blending, fitted = 0.0, 0
    if members and len(cases):
        fitted = min(len(cases), FITTED_CASES)
        few = cases.take(some(len(cases), min(enough(CASES, next(members[0].parameters()).device), fitted)))
        blending = seconds_of(partial(blend, members, tables[0], few)) * fitted / len(few)
    beside = max(2 * histories.values.nbytes + PAIR_BYTES * pairs, 4 * FITTED * fitted * min(catalogue_size, OTHERS))
    return NeighbourCost(counting, blending, TABLE_BYTES * catalogue_size + beside)


def finding_seconds(states: Tensor) -> float:
    """Return the seconds of finding every item's neighbours by text, from those of some.

    Args:
        states: float [N, H]; what they are does not matter.
    """
    count = len(states)
    rows = torch.arange(min(count, found_at_once(count), enough(ROWS, states.device)), device=states.device)
    return seconds_of(partial(nearest, states, rows)) * count / len(rows)


def finding_memory(count: int, width: int) -> int:
    """Return the bytes that finding every item's neighbours by text takes: the most while directions are made, or after.

    Args:
        count: N.
        width: H.
    """
    states, cosines = 4 * count * width, 4 * min(HELD, count * count)
    # The table that there is, the parts of the next one, and that one.
    return max(3 * states, states + cosines + 3 * TABLE_BYTES * count)
