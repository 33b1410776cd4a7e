"""Baselines: scores by hand, and one interface."""

from __future__ import annotations

import numpy as np
import torch

from laserrec.baselines.base import Baseline
from laserrec.baselines.neighbours import ItemNeighbours
from laserrec.baselines.popularity import Popularity
from laserrec.baselines.seen import SeenPenalty
from laserrec.baselines.sequential import Sequential
from laserrec.data.dataset import Cases
from laserrec.data.ragged import Ragged
from laserrec.evaluation.metrics import evaluate
from laserrec.sequential.sasrec import SASRec
from laserrec.training.neighbours import count_neighbours

HISTORIES = Ragged.from_rows([[0, 1, 1], [1, 3], [0]])
ITEMS, MASK = torch.tensor([[1, 1], [0, 0]]), torch.tensor([[True, True], [True, False]])


def test_popularity_counts_events() -> None:
    baseline: Baseline = Popularity.fit(HISTORIES, 5)
    assert baseline.scores(ITEMS, MASK).tolist() == [[2, 3, 0, 1, 0]] * 2
    assert (baseline.name, baseline.trained_parameters) == ("Popularity", 0)


def test_sequential_reads_what_fits() -> None:
    torch.manual_seed(0)
    model = SASRec(catalogue_size=5, width=8, blocks=1, heads=2, max_history=2, dropout=0.5)
    baseline: Baseline = Sequential(model, "SASRec", 7)
    scores = baseline.scores(torch.tensor([[4, 0, 1]]), torch.ones(1, 3, dtype=torch.bool))
    torch.testing.assert_close(scores, model.scores(torch.tensor([[0, 1]]), torch.ones(1, 2, dtype=torch.bool)))
    assert not scores.requires_grad
    assert (baseline.name, baseline.trained_parameters) == ("SASRec", 7)


def test_neighbours_never_name_an_item_of_the_history() -> None:
    # 1 is taken twice in a row, and 0 before and after it.
    baseline: Baseline = ItemNeighbours(count_neighbours(Ragged.from_rows([[0, 1, 1], [1, 0], [1, 3]]), 5))
    scores = baseline.scores(ITEMS, MASK)
    assert scores[0, 1] == scores[0, 2] == scores[1, 0] == 0
    assert (scores[0, [0, 3]] > 0).all()
    assert scores[1, 1] > 0
    assert (baseline.name, baseline.trained_parameters) == ("Item neighbours", 0)


def test_penalty_lowers_each_seen_item_once() -> None:
    baseline = SeenPenalty(Popularity.fit(HISTORIES, 5), 2.0)
    deviation = np.std([2, 3, 0, 1, 0])
    expected = torch.tensor([[2, 3 - 2 * deviation, 0, 1, 0], [2 - 2 * deviation, 3, 0, 1, 0]], dtype=torch.float32)
    torch.testing.assert_close(baseline.scores(ITEMS, MASK), expected)
    assert (baseline.name, baseline.trained_parameters) == ("Popularity", 1)


def test_penalty_is_chosen_on_validation() -> None:
    popular = Popularity(np.array([1, 9, 5, 3, 0]))
    new = Cases(np.arange(2), Ragged.from_rows([[1, 2], [2]]), np.array([3, 1]))
    repeated = Cases(np.arange(2), Ragged.from_rows([[1, 2], [2]]), np.array([1, 2]))
    assert SeenPenalty.choose(popular, repeated).strength == 0
    chosen = SeenPenalty.choose(popular, new)
    assert chosen.strength > 0
    assert evaluate(chosen.scores, new).ranks["full"].tolist() == evaluate(popular.scores, new).ranks["filter_seen"].tolist()
