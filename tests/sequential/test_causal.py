"""SASRec, GRU4Rec and FDSA: causality, and a loss that equals one prediction at a time."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch.nn.functional import cross_entropy

from laserrec.sequential.causal import CausalRecommender
from laserrec.sequential.fdsa import FDSA
from laserrec.sequential.gru4rec import GRU4Rec
from laserrec.sequential.sasrec import SASRec


@pytest.fixture(
    params=[
        partial(build, seen_penalty=penalty)
        for build in (partial(SASRec, heads=3), GRU4Rec, partial(FDSA, heads=3))
        for penalty in (False, True)
    ],
    ids=["sasrec", "sasrec-penalty", "gru4rec", "gru4rec-penalty", "fdsa", "fdsa-penalty"],
)
def model(request: pytest.FixtureRequest) -> CausalRecommender:
    torch.manual_seed(0)
    model: CausalRecommender = request.param(catalogue_size=19, width=12, blocks=2, max_history=6, dropout=0.2)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def test_states_do_not_see_the_future(model: CausalRecommender) -> None:
    mask = torch.ones(1, 5, dtype=torch.bool)
    first, second = model.states(torch.tensor([[1, 2, 3, 4, 5]]), mask), model.states(torch.tensor([[1, 2, 3, 9, 8]]), mask)
    torch.testing.assert_close(first[:, :3], second[:, :3])
    assert not torch.allclose(first[:, 3:], second[:, 3:])


def test_loss_is_the_mean_over_single_predictions(model: CausalRecommender) -> None:
    row = [5, 3, 8, 3, 1, 7, 2]
    scores = [model.scores(torch.tensor([row[:end]]), torch.ones(1, end, dtype=torch.bool)) for end in range(1, 7)]
    single = [cross_entropy(after, torch.tensor([target])) for after, target in zip(scores, row[1:], strict=True)]
    items, mask = torch.tensor([row, [4] * 7]), torch.tensor([[True] * 7, [True] + [False] * 6])
    torch.testing.assert_close(model.loss(items, mask, 0).mean, torch.stack(single).mean())
    torch.testing.assert_close(model.loss(items, mask, 2).mean, torch.stack(single[:4]).mean())


def test_one_more_item_than_the_positions_can_be_trained_on(model: CausalRecommender) -> None:
    assert model.loss(torch.arange(9)[None], torch.ones(1, 9, dtype=torch.bool), 2).mean.isfinite()


def test_starting_weights() -> None:
    torch.manual_seed(0)
    model = SASRec(catalogue_size=400, width=64, blocks=1, heads=2, max_history=5, dropout=0.0)
    assert abs(model.items.weight.std().item() - 0.02) < 0.002
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()


def test_gru_by_hand() -> None:
    """One item, one unit: h = (1 − z) · n from h = 0, with z = σ(b_z) and n = tanh(w · e)."""
    model = GRU4Rec(catalogue_size=2, width=1, blocks=1, max_history=3, dropout=0.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.items.weight.copy_(torch.tensor([[0.5], [-1.0]]))
        model.recurrent.weight_ih_l0.copy_(torch.tensor([[0.0], [0.0], [2.0]]))  # reset, update, new
        model.recurrent.bias_ih_l0.copy_(torch.tensor([0.0, 1.0, 0.0]))
        model.output.weight.fill_(3.0)
    state = 3 * (1 - 1 / (1 + math.exp(-1))) * math.tanh(2 * 0.5)
    scores = model.scores(torch.tensor([[0]]), torch.ones(1, 1, dtype=torch.bool))
    torch.testing.assert_close(scores, torch.tensor([[0.5 * state, -state]]))
