"""SASRec: causality, and a loss that equals one prediction at a time."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from laserrec.nn.sasrec import SASRec


@pytest.fixture(params=[False, True], ids=["plain", "penalty"])
def model(request: pytest.FixtureRequest) -> SASRec:
    torch.manual_seed(0)
    model = SASRec(catalogue_size=19, width=12, blocks=2, heads=3, max_history=6, dropout=0.2, seen_penalty=request.param)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def test_states_do_not_see_the_future(model: SASRec) -> None:
    mask = torch.ones(1, 5, dtype=torch.bool)
    first, second = model.states(torch.tensor([[1, 2, 3, 4, 5]]), mask), model.states(torch.tensor([[1, 2, 3, 9, 8]]), mask)
    torch.testing.assert_close(first[:, :3], second[:, :3])
    assert not torch.allclose(first[:, 3:], second[:, 3:])


def test_loss_is_the_mean_over_single_predictions(model: SASRec) -> None:
    row = [5, 3, 8, 3, 1, 7, 2]
    scores = [model.scores(torch.tensor([row[:end]]), torch.ones(1, end, dtype=torch.bool)) for end in range(1, 7)]
    single = [cross_entropy(after, torch.tensor([target])) for after, target in zip(scores, row[1:], strict=True)]
    items, mask = torch.tensor([row, [4] * 7]), torch.tensor([[True] * 7, [True] + [False] * 6])
    torch.testing.assert_close(model.loss(items, mask, 0), torch.stack(single).mean())
    torch.testing.assert_close(model.loss(items, mask, 2), torch.stack(single[:4]).mean())


def test_one_more_item_than_the_positions_can_be_trained_on(model: SASRec) -> None:
    assert model.loss(torch.arange(9)[None], torch.ones(1, 9, dtype=torch.bool), 2).isfinite()


def test_starting_weights() -> None:
    torch.manual_seed(0)
    model = SASRec(catalogue_size=400, width=64, blocks=1, heads=2, max_history=5, dropout=0.0)
    assert abs(model.items.weight.std().item() - 0.02) < 0.002
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
