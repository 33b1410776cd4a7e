"""Tables of neighbours: scores by hand, nearest items against a search over everything, items that come later."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from laserrec.layers.living_neighbours import LivingNeighbours
from laserrec.layers.neighbours import COUNT, Neighbours


def by_hand() -> Neighbours:
    """0 → 1 (.4), 0 → 2 (.2), 1 → 2 (.6), 3 → 0 (.5); floor .1."""
    neighbours = Neighbours(5, 0.1)
    for item, place, other, weight in ((0, 0, 1, 0.4), (0, 1, 2, 0.2), (1, 0, 2, 0.6), (3, 0, 0, 0.5)):
        neighbours.items[item, place], neighbours.weights[item, place] = other, weight
    return neighbours


def test_recent_items_count_more_and_the_history_itself_not_at_all() -> None:
    items, mask = torch.tensor([[0, 1, 0], [3, 0, 9]]), torch.tensor([[True, True, False], [True, True, True]])
    found = by_hand().scores(items, mask)
    # 1 came last, 0 before it; in the second row 9 is no item of the table, so 0 came last.
    first, second = (0.6 + 0.85 * 0.2) / 0.1, (0.4 / 0.1, 0.2 / 0.1)
    expected = [[0, 0, math.log1p(first), 0, 0], [0, math.log1p(second[0]), math.log1p(second[1]), 0, 0]]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_a_history_of_unknown_items_or_none_says_nothing() -> None:
    neighbours = by_hand()
    assert not neighbours.scores(torch.tensor([[7, 8]]), torch.ones(1, 2, dtype=torch.bool)).any()
    assert not neighbours.scores(torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.bool)).any()
    assert neighbours.scores(torch.zeros(0, 3, dtype=torch.int64), torch.zeros(0, 3, dtype=torch.bool)).shape == (0, 5)


def test_only_ten_items_count() -> None:
    neighbours = by_hand()
    late = torch.tensor([[4] * 10])
    assert not neighbours.scores(torch.cat([torch.tensor([[0]]), late], 1), torch.ones(1, 11, dtype=torch.bool)).any()
    assert neighbours.scores(torch.cat([torch.tensor([[0]]), late[:, :9]], 1), torch.ones(1, 10, dtype=torch.bool)).any()


def directions(count: int, seed: int) -> torch.Tensor:
    return normalize(torch.randn(count, 3, generator=torch.Generator().manual_seed(seed)), dim=1)


def placed(table: Neighbours | LivingNeighbours, vectors: torch.Tensor, rows: torch.Tensor, live: torch.Tensor) -> LivingNeighbours:
    living = LivingNeighbours(table) if isinstance(table, Neighbours) else table
    return living.placed(lambda part: vectors[part] @ vectors.T, rows, live)


def dense(neighbours: Neighbours | LivingNeighbours) -> torch.Tensor:
    size = len(neighbours.items)
    return torch.zeros(size, size).scatter_add_(1, neighbours.items.long(), neighbours.weights)


def searched(vectors: torch.Tensor) -> torch.Tensor:
    """Every pair, one by one; of each row the COUNT largest."""
    weights = torch.tensor(
        [[0.0 if i == j else math.exp(10 * (float(a @ b) - 1)) for j, b in enumerate(vectors)] for i, a in enumerate(vectors)]
    )
    for row in weights:
        row[row.argsort(descending=True)[COUNT:]] = 0
    return weights


@pytest.mark.parametrize("count", [1, 2, 40, COUNT + 1, COUNT + 30])
def test_nearest_are_those_of_a_search_over_all(count: int) -> None:
    vectors, neighbours = directions(count, 1), Neighbours(count, 0.1)
    neighbours.find(vectors)
    torch.testing.assert_close(dense(neighbours), searched(vectors), rtol=1e-3, atol=1e-6)
    assert neighbours.items.shape == neighbours.weights.shape == (count, COUNT)


def everyone(count: int) -> torch.Tensor:
    return torch.ones(count, dtype=torch.bool)


@given(st.integers(1, 130), st.integers(0, 40), st.integers(0, 9))
def test_items_that_come_later_find_their_places_beside_the_others(known: int, new: int, seed: int) -> None:
    vectors, before = directions(known + new, seed), Neighbours(known, 0.1)
    before.find(vectors[:known])
    after = placed(before, vectors, torch.arange(known, known + new), everyone(known + new))
    found, expected = dense(after), searched(vectors)
    assert torch.equal(found[:known, :known], dense(before))
    torch.testing.assert_close(found[:, known:], expected[:, known:], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found[known:], expected[known:], rtol=1e-4, atol=1e-6)


def test_a_table_never_changes() -> None:
    vectors, neighbours = directions(20, 2), Neighbours(15, 0.1)
    neighbours.find(vectors[:15])
    before = dense(neighbours)
    placed(neighbours, vectors, torch.arange(15, 20), everyone(20))
    placed(neighbours, vectors[:15], torch.tensor([3]), everyone(15))
    LivingNeighbours(neighbours).take(torch.arange(4, 9), everyone(5))
    assert torch.equal(dense(neighbours), before)


@pytest.mark.parametrize("count", [20, COUNT + 30])
def test_a_changed_item_moves_and_no_other(count: int) -> None:
    vectors, neighbours = directions(count, 4), Neighbours(count, 0.1)
    neighbours.find(vectors)
    changed = vectors.clone()
    changed[3] = directions(1, 99)[0]
    before, found, expected = dense(neighbours), dense(placed(neighbours, changed, torch.tensor([3]), everyone(count))), searched(changed)
    others = torch.arange(count) != 3
    assert torch.equal(found[others][:, others], before[others][:, others])
    torch.testing.assert_close(found[3], expected[3], rtol=1e-4, atol=1e-6)
    # Where the item has left a place free, it comes back to it however far it is.
    near = expected[others, 3] > 0
    torch.testing.assert_close(found[others, 3][near], expected[others, 3][near], rtol=1e-4, atol=1e-6)


def test_what_is_gone_is_near_to_nobody() -> None:
    vectors, neighbours = directions(20, 5), Neighbours(20, 0.1)
    neighbours.find(vectors)
    before, order = dense(neighbours), torch.tensor([0, 1, 2, 5, 6, 19])
    live = torch.tensor([True, True, False, True, True, True])  # 2 keeps its place, empty
    expected = before[order][:, order] * live[:, None] * live
    assert torch.equal(dense(LivingNeighbours(neighbours).take(order, live)), expected)
    later = placed(
        LivingNeighbours(neighbours).take(order, live), vectors[[*order.tolist(), 7]], torch.tensor([6]), torch.cat([live, everyone(1)])
    )
    assert not dense(later)[2].any()
    assert not dense(later)[:, 2].any()
    assert int((dense(later)[6] > 0).sum()) == 5


def test_rows_that_no_new_item_is_near_to_stay_as_they_are() -> None:
    """On a circle 101 items lie in the first quarter; of those that come later one lies in its middle and two lie opposite."""
    angles = torch.cat([torch.linspace(0, math.pi / 2, COUNT + 1), torch.tensor([math.pi / 4, math.pi + 0.1, math.pi + 0.2])])
    vectors, neighbours = torch.stack([angles.cos(), angles.sin()], dim=1), Neighbours(COUNT + 1, 0.1)
    neighbours.find(vectors[:-3])
    # Turned round, so that a row that is sorted again shows.
    neighbours.items, neighbours.weights = neighbours.items.flip(1), neighbours.weights.flip(1)
    opposite = placed(neighbours, torch.cat([vectors[:-3], vectors[-2:]]), torch.tensor([101, 102]), everyone(103))
    assert torch.equal(opposite.items[:-2], neighbours.items)
    assert torch.equal(opposite.weights[:-2], neighbours.weights)
    found = placed(neighbours, vectors[:-2], torch.tensor([101]), everyone(102))
    for item in range(COUNT + 1):
        assert set(found.items[item].tolist()) == set(range(COUNT + 2)) - {item}
