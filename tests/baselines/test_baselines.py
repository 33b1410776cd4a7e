"""Baselines: scores by hand, one interface, one place that names them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from laserrec.baselines.base import Fitted
from laserrec.baselines.blends import BlendBaseline
from laserrec.baselines.collection import BASELINES, TUNABLE, baseline_named
from laserrec.baselines.item_knn import ITEM_NEIGHBOURS
from laserrec.baselines.popularity import Popularity
from laserrec.baselines.seen_penalty import STRENGTHS, choose_penalty, penalised
from laserrec.baselines.sequential import RECIPES, scored_by
from laserrec.config import LaserConfig
from laserrec.data.dataset import Cases
from laserrec.data.ragged import Ragged
from laserrec.errors import ConfigError
from laserrec.evaluation.metrics import evaluate
from laserrec.sequential.sasrec import SASRec
from laserrec.system.devices import CPU
from laserrec.training.context import FitContext, Stage

ITEMS, MASK = torch.tensor([[1, 1], [0, 0]]), torch.tensor([[True, True], [True, False]])
NONE = Cases(np.arange(0), Ragged.from_rows([]), np.arange(0))


def context(histories: list[list[int]], items: int) -> FitContext:
    """What a baseline that trains nothing asks a run for."""
    rows = Ragged.from_rows(histories)
    data = SimpleNamespace(cases=lambda split: NONE, item_ids=list(range(items)), training_histories=lambda: rows)
    return FitContext(data, LaserConfig(), device=CPU)  # type: ignore[arg-type]


def counted(counts: list[float]) -> Fitted:
    return Fitted("Counts", lambda items, mask: torch.tensor(counts).expand(len(items), -1))


def test_popularity_counts_events() -> None:
    fitted = Popularity().fit(context([[0, 1, 1], [1, 3], [0]], 5))
    assert fitted.scores(ITEMS, MASK).tolist() == [[2, 3, 0, 1, 0]] * 2
    assert (fitted.label, fitted.seconds, fitted.parameters) == ("Popularity", 0, 0)


def test_sequential_reads_what_fits() -> None:
    torch.manual_seed(0)
    model = SASRec(catalogue_size=5, width=8, blocks=1, heads=2, max_history=2, dropout=0.5)
    fitted = scored_by(model, "SASRec", 1.5, 7)
    scores = fitted.scores(torch.tensor([[4, 0, 1]]), torch.ones(1, 3, dtype=torch.bool))
    torch.testing.assert_close(scores, model.scores(torch.tensor([[0, 1]]), torch.ones(1, 2, dtype=torch.bool)))
    assert not scores.requires_grad
    assert (fitted.label, fitted.seconds, fitted.parameters) == ("SASRec", 1.5, 7)


def test_neighbours_never_name_an_item_of_the_history() -> None:
    # 1 is taken twice in a row, and 0 before and after it.
    fitted = ITEM_NEIGHBOURS.fit(context([[0, 1, 1], [1, 0], [1, 3]], 5))
    scores = fitted.scores(ITEMS, MASK)
    assert scores[0, 1] == scores[0, 2] == scores[1, 0] == 0
    assert (scores[0, [0, 3]] > 0).all()
    assert scores[1, 1] > 0
    assert (fitted.label, fitted.parameters) == ("Item neighbours", 0)


@dataclass(frozen=True)
class Fixed:
    """A baseline whose scores are given."""

    counts: list[float]
    name: str = "fixed"
    label: str = "Fixed"
    summary: str = ""

    def stages(self, config: LaserConfig) -> list[Stage]:
        return []

    def depends_on(self, config: LaserConfig) -> dict[str, Any]:
        return {"llm": self.name}

    def fit(self, context: FitContext) -> Fitted:
        return replace(counted(self.counts), seconds=2.0, parameters=3)


def test_a_blend_is_the_weighted_sum_of_its_parts() -> None:
    cases = Cases(np.arange(4), Ragged.from_rows([[0]] * 4), np.array([1, 1, 1, 2]))
    rows = Ragged.from_rows([[0, 1]])
    data = SimpleNamespace(cases=lambda part: cases, item_ids=[0, 1, 2], training_histories=lambda: rows)
    blend = BlendBaseline("both", "Both", "", (Fixed([0.0, 1.0, 0.0]), Fixed([-1.0, 0.0, 0.0])))
    fitted = blend.fit(FitContext(data, LaserConfig(), device=CPU))  # type: ignore[arg-type]
    assert (fitted.parameters, fitted.seconds >= 4) == (3 + 3 + 2, True)
    # Three of four took item 1: the odds are 3 to 1 to nothing, as near as finite weights come.
    chances = fitted.scores(ITEMS, MASK)[0].softmax(0)
    assert chances.tolist() == pytest.approx([0, 0.75, 0.25], abs=0.01)
    assert blend.depends_on(LaserConfig()) == {"llm": "fixed", "stage2": {"validation_cases": 2000}}


def test_penalty_lowers_each_seen_item_once() -> None:
    fitted = penalised(counted([2.0, 3.0, 0.0, 1.0, 0.0]), 2.0)
    deviation = np.std([2, 3, 0, 1, 0])
    expected = torch.tensor([[2, 3 - 2 * deviation, 0, 1, 0], [2 - 2 * deviation, 3, 0, 1, 0]], dtype=torch.float32)
    torch.testing.assert_close(fitted.scores(ITEMS, MASK), expected)
    assert fitted.parameters == 1


def test_penalty_is_chosen_on_validation() -> None:
    popular = counted([1.0, 9.0, 5.0, 3.0, 0.0])
    new = Cases(np.arange(2), Ragged.from_rows([[1, 2], [2]]), np.array([3, 1]))
    repeated = Cases(np.arange(2), Ragged.from_rows([[1, 2], [2]]), np.array([1, 2]))

    def ranks(fitted: Fitted, cases: Cases) -> list[int]:
        return cast("list[int]", evaluate(fitted.scores, cases).ranks["full"].tolist())

    assert ranks(choose_penalty(popular, repeated, CPU), repeated) == ranks(penalised(popular, STRENGTHS[0]), repeated) == [1, 2]
    assert ranks(choose_penalty(popular, new, CPU), new) == evaluate(popular.scores, new).ranks["filter_seen"].tolist()
    assert choose_penalty(popular, NONE, CPU) is popular


def test_one_place_names_every_baseline() -> None:
    names = [baseline.name for baseline in BASELINES]
    assert len(set(names)) == len(names) == len({baseline.label for baseline in BASELINES})
    assert all(baseline_named(name) is baseline for name, baseline in zip(names, BASELINES, strict=True))
    assert set(RECIPES) <= {baseline.name for baseline in TUNABLE}
    with pytest.raises(ConfigError, match="Unknown baseline 'knn'; there are popularity, item-knn"):
        baseline_named("knn")


def test_a_baseline_says_what_it_needs_and_depends_on() -> None:
    config = LaserConfig()
    needed = {baseline.name: [stage.name for stage in baseline.stages(config)] for baseline in BASELINES}
    assert needed["popularity"] == []
    assert needed["last-text"] == ["text vectors"]
    assert needed["gru4rec"] == ["gru4rec"]
    assert needed["unisrec"] == ["text vectors", "unisrec"]
    assert needed["ease"] == needed["tf-idf"] == needed["knn-tf-idf-ease"] == []
    refits = ["sasrec", "sasrec-text-id", "sasrec-text-id-2", "sasrec-text-id-3", "sasrec-text-id-4"]
    assert needed["ensemble"] == needed["ensemble-tf-idf-ease"] == ["text vectors", *refits]
    sections = {baseline.name: set(baseline.depends_on(config)) for baseline in BASELINES}
    assert sections["popularity"] == set()
    assert sections["sasrec"] == {"collaborative", "fit_collaborative"}
    assert sections["fdsa"] == sections["sasrec"] | {"llm", "prompt"}
    assert sections["ensemble"] == sections["ensemble-tf-idf-ease"] == sections["fdsa"] | {"stage2"}
    assert sections["knn-tf-idf"] == {"stage2"}
