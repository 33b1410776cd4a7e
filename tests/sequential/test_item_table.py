"""Item vectors made from texts: worked out by hand, equal to the embeddings they are fixed to."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from laserrec.sequential.base import SequentialRecommender
from laserrec.sequential.bert4rec import BERT4Rec
from laserrec.sequential.ensemble import Ensemble
from laserrec.sequential.fdsa import FDSA
from laserrec.sequential.gru4rec import GRU4Rec
from laserrec.sequential.item_table import TextTable, whiten
from laserrec.sequential.sasrec import SASRec

TEXTS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 2.0]])
ITEMS, MASK = torch.tensor([[0, 3, 5], [2, 1, 0]]), torch.tensor([[True, True, True], [True, True, False]])


def test_one_map_is_linear() -> None:
    table = TextTable(TEXTS, 2, ids=True)
    with torch.no_grad():
        table.maps.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        table.bias.copy_(torch.tensor([0.5, 0.0]))
        assert table.ids is not None
        table.ids.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, -1.0]]))
    assert table.weight.tolist() == [[1.5, 2.0], [4.5, 5.0], [7.5, 9.0]]


def test_experts_are_mixed_by_a_softmax_over_the_text() -> None:
    table = TextTable(TEXTS, 1, ids=False, experts=2)
    assert table.ids is None
    assert table.gate is not None
    with torch.no_grad():
        table.maps.copy_(torch.tensor([[1.0, 10.0], [2.0, 20.0]]))
        table.gate.copy_(torch.tensor([[0.0, math.log(3)], [0.0, 0.0]]))
    # Items 0 and 2 take a quarter of the first map and three of the second, item 1 half of each.
    torch.testing.assert_close(table.weight, torch.tensor([[0.25 * 1 + 0.75 * 10], [0.5 * 2 + 0.5 * 20], [0.25 * 5 + 0.75 * 50]]))


def test_texts_alone_start_alike_whatever_the_experts() -> None:
    torch.manual_seed(0)
    texts = torch.randn(2000, 50)
    for experts in (1, 8):
        assert TextTable(texts, 32, ids=False, experts=experts).weight.std().item() == pytest.approx(0.1, rel=0.1)


def test_whitened_vectors_are_centred_uncorrelated_and_equally_strong() -> None:
    torch.manual_seed(0)
    narrow = 5 + torch.randn(300, 4) @ torch.tensor([[3.0, 1, 0, 2], [0, 0.1, 0, 0.1], [0, 0, 0, 0], [1, 0, 0, 1]])
    white = whiten(narrow)
    assert white.shape == (300, 3)  # a direction in which the items do not differ is gone
    torch.testing.assert_close(white.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(white.T @ white / 300, torch.eye(3), atol=1e-3, rtol=0)


def test_equal_texts_whiten_to_nothing() -> None:
    nothing = whiten(torch.ones(4, 3))
    assert nothing.shape == (4, 0)
    assert TextTable(nothing, 8, ids=True).weight.shape == (4, 8)  # a catalogue without texts: ids alone
    assert whiten(torch.zeros(1, 3)).shape == (1, 0)


def models() -> list[SequentialRecommender]:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"catalogue_size": 6, "width": 8, "blocks": 1, "max_history": 3, "dropout": 0.0, "seen_penalty": True}
    built: list[SequentialRecommender] = [SASRec(heads=2, **sizes), BERT4Rec(heads=2, **sizes), GRU4Rec(**sizes)]
    built.append(FDSA(heads=2, features=torch.randn(6, 4), **sizes))
    for model in built:
        model.items = TextTable(torch.randn(6, 4), 8, ids=True, experts=2)
    return built


@pytest.mark.parametrize("model", models(), ids=lambda model: type(model).__name__)
def test_fixed_items_score_as_the_texts_did(model: SequentialRecommender) -> None:
    model.eval()
    before, states = model.scores(ITEMS, MASK).detach(), model.states(ITEMS, MASK).detach()
    model.loss(ITEMS, MASK).mean.backward()
    assert isinstance(model.items, TextTable)
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.items.parameters())
    model.fix_items()
    torch.testing.assert_close(model.scores(ITEMS, MASK), before)
    torch.testing.assert_close(model.states(ITEMS, MASK), states)
    assert model.state_dict()["items.weight"].shape == (6, 8)


def test_an_ensemble_scores_by_the_mean() -> None:
    members = [model.eval() for model in models()]
    ensemble = Ensemble(members)
    expected = sum(member.scores(ITEMS, MASK) for member in members) / 4
    torch.testing.assert_close(ensemble.scores(ITEMS, MASK), expected)
    assert sum(p.numel() for p in ensemble.parameters()) == sum(p.numel() for member in members for p in member.parameters())
