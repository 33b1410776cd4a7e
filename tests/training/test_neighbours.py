"""Items that were taken together: counted against loops, kept by number, and blended by what validates."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from laserrec.data.dataset import Cases
from laserrec.data.ragged import Ragged
from laserrec.layers.neighbours import COUNT, Neighbours
from laserrec.sequential.sasrec import SASRec
from laserrec.training import calibration, candidates
from laserrec.training import neighbours as module
from laserrec.training.neighbours import blend, count_neighbours

ITEMS = 12


def counted(histories: list[list[int]]) -> dict[tuple[int, int], float]:
    """The definition, pair by pair; distances weigh 1000, 800, 640 … thousandths, half of that backwards."""
    pairs: dict[tuple[int, int], int] = defaultdict(int)
    events: dict[int, int] = defaultdict(int)
    for history in histories:
        for place, item in enumerate(history):
            events[item] += 1
            for apart, other in enumerate(history[place + 1 : place + 8]):
                if other != item:
                    pairs[item, other] += round(1000 * 0.8**apart)
                    pairs[other, item] += round(500 * 0.8**apart)
    return {(i, j): count / 1000 / math.sqrt((events[i] + 10) * (events[j] + 10)) for (i, j), count in pairs.items()}


@given(st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=12), min_size=1, max_size=8), st.sampled_from([14, 40, 100, 2**21]))
def test_counts_are_those_of_the_definition_in_whatever_parts(histories: list[list[int]], held: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PAIRS_HELD", held)
        neighbours = count_neighbours(Ragged.from_rows(histories), ITEMS)
    found = {
        (item, other): weight
        for item in range(ITEMS)
        for other, weight in zip(neighbours.items[item].tolist(), neighbours.weights[item].tolist(), strict=True)
        if weight > 0
    }
    assert found == pytest.approx(counted(histories), rel=1e-5)


def test_no_more_pairs_are_held_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    histories = Ragged.from_rows([rng.permutation(ITEMS) for _ in range(100)])
    whole, keep = count_neighbours(histories, ITEMS), module.keep_nearest
    kept: list[list[int]] = []
    monkeypatch.setattr(module, "keep_nearest", lambda table, item, *rest: kept.append(item.tolist()) or keep(table, item, *rest))
    monkeypatch.setattr(module, "PAIRS_HELD", 14 * 200)
    divided = count_neighbours(histories, ITEMS)
    # 100 events an item make 1,400 pairs at most, so two items make a part, and with each there are all others.
    assert kept == [[first] * (ITEMS - 1) + [first + 1] * (ITEMS - 1) for first in range(0, ITEMS, 2)]
    assert torch.equal(divided.items, whole.items)
    assert torch.equal(divided.weights, whole.weights)


def test_of_equal_neighbours_the_first_are_kept() -> None:
    others = COUNT + 5
    neighbours = count_neighbours(Ragged.from_rows([[0, 1 + other] for other in reversed(range(others))]), 1 + others)
    assert neighbours.items[0].tolist() == list(range(1, COUNT + 1))
    assert neighbours.weights[0].tolist() == pytest.approx([1 / math.sqrt((others + 10) * 11)] * COUNT)


def test_the_nearest_are_kept() -> None:
    others = COUNT + 20
    histories = [[0, 1 + other] for other in range(others) for _ in range(1 + (other >= 20))]
    neighbours = count_neighbours(Ragged.from_rows(histories), 1 + others)
    assert sorted(neighbours.items[0].tolist()) == list(range(21, 1 + others))
    assert (neighbours.weights[0] > 0).all()


def recommender() -> SASRec:
    torch.manual_seed(0)
    return SASRec(catalogue_size=ITEMS, width=8, blocks=1, heads=2, max_history=5, dropout=0.5)


def cases(follow: int) -> Cases:
    """Histories of one item, each followed by the item `follow` places on."""
    items = np.arange(ITEMS)
    return Cases(items, Ragged.from_rows([[item] for item in items]), (items + follow) % ITEMS)


def mostly_neighbours() -> Cases:
    """Histories of one item, three of four followed by the next item, the others by the one after."""
    return Cases(np.arange(24), Ragged.from_rows([[item % ITEMS] for item in range(24)]), (np.arange(24) + 1 + np.arange(24) // 18) % ITEMS)


def test_a_blend_gives_neighbours_the_share_that_fits_best() -> None:
    neighbours = count_neighbours(Ragged.from_rows([[item, (item + 1) % ITEMS] for item in range(ITEMS)] * 3 + [[0, 5], [3, 9]]), ITEMS)
    mixed = mostly_neighbours()
    ensemble = blend([recommender(), recommender()], neighbours, None, mixed)
    assert ensemble.shares[1] > 0.1
    items, mask = torch.from_numpy(mixed.histories.values)[:, None], torch.ones(24, 1, dtype=torch.bool)

    def loss(first: float, second: float) -> float:
        logits = first * ensemble.mean(items, mask) + second * neighbours.scores(items, mask)
        return float(cross_entropy(logits, torch.from_numpy(mixed.targets)))

    with torch.no_grad():
        first, second, _ = ensemble.shares.tolist()
        assert all(
            loss(first, second) <= loss(first + a, second + b) + 1e-6 for a in (-0.2, 0, 0.2) for b in (-0.2, 0, 0.2) if first + a >= 0
        )
        torch.testing.assert_close(
            ensemble.scores(items, mask), first * ensemble.mean(items, mask) + second * neighbours.scores(items, mask)
        )


def test_a_blend_weighs_two_tables_each_by_what_it_adds() -> None:
    """Three of four follow one table, the fourth the other: the first gets more, and each shift of either share fits worse."""
    one, other = (count_neighbours(Ragged.from_rows([[item, (item + by) % ITEMS] for item in range(ITEMS)]), ITEMS) for by in (1, 2))
    mixed = mostly_neighbours()
    ensemble = blend([recommender()], one, other, mixed)
    items, mask = torch.from_numpy(mixed.histories.values)[:, None], torch.ones(24, 1, dtype=torch.bool)
    mean, first, second = (score(items, mask).detach() for score in (ensemble.mean, one.scores, other.scores))

    def loss(shares: list[float]) -> float:
        logits = shares[0] * mean + shares[1] * first + shares[2] * second
        return float(cross_entropy(logits, torch.from_numpy(mixed.targets)))

    fitted = ensemble.shares.tolist()
    assert fitted[1] > fitted[2] > 0
    assert all(loss(fitted) <= loss([fitted[0], fitted[1] + a, fitted[2] + b]) + 1e-6 for a in (-0.2, 0, 0.2) for b in (-0.2, 0, 0.2))
    torch.testing.assert_close(ensemble.scores(items, mask), fitted[0] * mean + fitted[1] * first + fitted[2] * second)


def test_good_neighbours_are_kept_beside_members_that_mislead() -> None:
    neighbours = count_neighbours(Ragged.from_rows([[item, (item + 1) % ITEMS] for item in range(ITEMS)]), ITEMS)
    for seed in range(4):
        torch.manual_seed(seed)
        member = SASRec(catalogue_size=ITEMS, width=8, blocks=1, heads=2, max_history=5, dropout=0.5)
        few = cases(1).take(np.arange(2))
        ensemble = blend([member], neighbours, None, few)
        items, mask = torch.from_numpy(few.histories.values)[:, None], torch.ones(2, 1, dtype=torch.bool)
        assert ensemble.shares[1] > 0
        assert ensemble.scores(items, mask).argmax(1).tolist() == few.targets.tolist()


def test_a_blend_over_some_of_a_catalogue_is_about_that_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    neighbours = count_neighbours(Ragged.from_rows([[item, (item + 1) % ITEMS] for item in range(ITEMS)] * 3), ITEMS)
    whole = blend([recommender()], neighbours, None, mostly_neighbours()).shares
    monkeypatch.setattr(candidates, "OTHERS", 8)
    monkeypatch.setattr(calibration, "SCORES_HELD", calibration.TERMS * ITEMS * 2)  # two cases at a time
    drawn = torch.stack([blend([recommender()], neighbours, None, mostly_neighbours(), seed).shares for seed in range(3)])
    assert not torch.equal(drawn[0], drawn[1])
    assert ((drawn - whole).abs() < 0.3 * whole.abs().amax()).all(), (drawn, whole)


def test_misleading_neighbours_get_no_share() -> None:
    neighbours = count_neighbours(Ragged.from_rows([[item, (item + 1) % ITEMS] for item in range(ITEMS)]), ITEMS)
    assert blend([recommender()], neighbours, None, cases(5)).shares[1] == 0


def test_without_neighbours_or_cases_nothing_is_fitted() -> None:
    assert blend([recommender()], None, None, cases(1)).shares.tolist() == [1, 0, 0]
    assert blend([recommender()], Neighbours(ITEMS, 0.1), None, cases(1).take(np.arange(0))).shares.tolist() == [1, 0, 0]
