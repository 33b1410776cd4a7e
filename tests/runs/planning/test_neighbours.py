"""What neighbours are predicted to take: trials on parts of the work, scaled to all of it, with a clock that always says two seconds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from laserrec.data.dataset import Cases
from laserrec.data.ragged import Ragged
from laserrec.runs.planning import neighbours as module
from laserrec.runs.planning.neighbours import NeighbourCost, finding_memory, finding_seconds, try_neighbours
from laserrec.sequential.sasrec import SASRec

ITEMS = 12
TABLE = 8 * 100 * ITEMS


def two_seconds(work: Callable[[], object]) -> float:
    work()
    return 2.0


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "seconds_of", two_seconds)


def histories(rows: int) -> Ragged:
    """Ten events each, every item as often as any other."""
    return Ragged.from_rows([np.arange(row, row + 10) % ITEMS for row in range(rows)])


def cases(count: int) -> Cases:
    return Cases(np.arange(count), Ragged.from_rows([[row % ITEMS] for row in range(count)]), np.arange(count) % ITEMS)


def member() -> SASRec:
    torch.manual_seed(0)
    return SASRec(catalogue_size=ITEMS, width=8, blocks=1, heads=2, max_history=5, dropout=0.5)


def test_what_is_tried_stands_for_the_whole() -> None:
    found = try_neighbours(histories(6000), ITEMS, [member()] * 2, cases(256))
    # 20,000 of 60,000 events; 64 of 256 cases.
    assert (found.counting, found.blending) == (6.0, 8.0)
    # 14 pairs an event, 80 bytes each, and the events twice as they are and in order.
    assert found.memory == TABLE + 60_000 * (14 * 80 + 2 * 8)


def test_a_small_log_is_tried_whole() -> None:
    found = try_neighbours(histories(60), ITEMS, [member()], cases(5))
    assert found == NeighbourCost(2.0, 2.0, TABLE + 600 * (14 * 80 + 2 * 8))


def test_pairs_are_bounded_but_for_those_of_one_item() -> None:
    rows = histories(24_000)
    # 240,000 events, 20,000 of each item: a part makes 2,097,152 pairs, and at its end all those of one item.
    assert try_neighbours(rows, ITEMS, [], cases(5)).memory == TABLE + 80 * (2**21 + 14 * 20_000) + 2 * 8 * 240_000


def test_nothing_is_blended_without_members_or_cases() -> None:
    assert try_neighbours(histories(60), ITEMS, [], cases(5)).blending == 0
    assert try_neighbours(histories(60), ITEMS, [member()], cases(0)).blending == 0


def test_a_long_catalogue_is_fitted_on_some_of_its_items() -> None:
    items = 100_000
    found = try_neighbours(Ragged.from_rows([[0, 1]]), items, [], cases(256))
    assert found.memory == 800 * items + 2 * 14 * 80 + 2 * 8 * 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "blend", lambda members, table, tried: len(tried))
        found = try_neighbours(Ragged.from_rows([[0, 1]]), items, [member()], cases(256))
    # 256 cases, of which 64 are tried; five scores of four bytes for each of 10,000 candidates.
    assert (found.blending, found.memory) == (2.0 * 256 / 64, 800 * items + 256 * 5 * 4 * 10_000)


@pytest.mark.parametrize(("count", "rows"), [(5, 5), (128, 128), (1000, 128), (600_000, 55)])
def test_finding_is_tried_on_some_rows(count: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(module, "nearest", lambda states, some: asked.append(len(some)))
    assert finding_seconds(torch.zeros(count, 2)) == pytest.approx(2.0 * count / rows)
    assert asked == [rows]


def test_the_memory_of_finding_by_hand() -> None:
    # Three times 230.4 MB while directions are made: more than those, 134 MB of cosines and three tables of 80 MB.
    assert finding_memory(100_000, 576) == 3 * 230_400_000
    assert finding_memory(1_000_000, 64) == 256_000_000 + 4 * 2**25 + 3 * 800_000_000
    assert finding_memory(10, 16) == 640 + 400 + 24_000
