"""What all sequential recommenders must hold to: nothing beside a history changes its states, scores or gradients."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from laserrec.sequential.base import GROUPS, SeenPenalty, SequentialRecommender, drop_last, last_states
from laserrec.sequential.bert4rec import BERT4Rec
from laserrec.sequential.fdsa import FDSA
from laserrec.sequential.gru4rec import GRU4Rec
from laserrec.sequential.sasrec import SASRec

N, S = 23, 7


@pytest.fixture(
    params=[
        partial(SASRec, heads=2),
        partial(BERT4Rec, heads=2),
        GRU4Rec,
        partial(FDSA, heads=2),
        partial(SASRec, heads=2, seen_penalty=True),
        partial(BERT4Rec, heads=2, seen_penalty=True),
        partial(GRU4Rec, seen_penalty=True),
        partial(FDSA, heads=2, seen_penalty=True),
    ],
    ids=["sasrec", "bert4rec", "gru4rec", "fdsa", "sasrec-penalty", "bert4rec-penalty", "gru4rec-penalty", "fdsa-penalty"],
)
def model(request: pytest.FixtureRequest) -> SequentialRecommender:
    torch.manual_seed(0)
    built: SequentialRecommender = request.param(catalogue_size=N, width=16, blocks=2, max_history=S, dropout=0.3)
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return built.eval()


def batch(rows: list[list[int]], fill: int = 0, longest: int | None = None) -> tuple[Tensor, Tensor]:
    longest = longest or max(map(len, rows))
    items = torch.tensor([row + [fill] * (longest - len(row)) for row in rows])
    return items, torch.tensor([[place < len(row) for place in range(longest)] for row in rows])


ROWS = [[3, 1, 4, 1, 5], [9], [2, 6, 5, 3, 5, 8, 9], [7, 9]]


def test_padding_and_neighbours_change_nothing(model: SequentialRecommender) -> None:
    together, scores = model.states(*batch(ROWS, fill=11)), model.scores(*batch(ROWS, fill=11))
    for number, row in enumerate(ROWS):
        alone = model.states(*batch([row]))[0]
        torch.testing.assert_close(together[number, : len(row)], alone, rtol=1e-4, atol=1e-5)
        assert not together[number, len(row) :].any()
        torch.testing.assert_close(scores[number], model.scores(*batch([row], fill=4, longest=S))[0], rtol=1e-4, atol=1e-5)


def test_order_of_rows_changes_nothing(model: SequentialRecommender) -> None:
    items, mask = batch(ROWS)
    shuffled = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(model.scores(items[shuffled], mask[shuffled]), model.scores(items, mask)[shuffled], rtol=1e-4, atol=1e-5)


def test_groups_of_similar_length_change_nothing(model: SequentialRecommender) -> None:
    rows = [ROWS[place % 4] for place in range(4 * GROUPS)] + [[]] * 2 * GROUPS
    together = model.states(*batch(rows, fill=11))
    for number, row in enumerate(rows[: 4 * GROUPS]):
        torch.testing.assert_close(together[number, : len(row)], model.states(*batch([row]))[0], rtol=1e-4, atol=1e-5)
        assert not together[number, len(row) :].any()
    assert not together[4 * GROUPS :].any()


def test_shapes_and_finiteness(model: SequentialRecommender) -> None:
    items, mask = batch([*ROWS, []])
    assert model.states(items, mask).shape == (5, S, 16)
    assert model.scores(*batch(ROWS)).shape == (4, N)
    assert model.item_vectors.shape == (N, 16)
    assert model.states(items, mask).isfinite().all()


def test_order_of_history_matters(model: SequentialRecommender) -> None:
    assert not torch.allclose(model.scores(*batch([[1, 2, 3]])), model.scores(*batch([[2, 1, 3]])), atol=1e-3)


def test_too_long_a_history_is_refused(model: SequentialRecommender) -> None:
    items, mask = batch([list(range(S + 1))])
    for method in (model.states, model.scores):
        with pytest.raises(ValueError, match=f"{S + 1} items; at most {S} fit"):
            method(items, mask)


def loss_and_gradient(model: SequentialRecommender, rows: list[list[int]], hold_out: int, fill: int = 0) -> tuple[Tensor, list[Tensor]]:
    model.zero_grad()
    torch.manual_seed(1)
    loss = model.loss(*batch(rows, fill), hold_out).mean
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("hold_out", [1, 2])
def test_held_out_items_are_neither_predicted_nor_read(model: SequentialRecommender, hold_out: int) -> None:
    rows = [[3, 1, 4, 1, 5], [2, 6, 5, 3, 5, 8], [7, 9]]
    changed = [row[:-hold_out] + [(item + 9) % N for item in row[-hold_out:]] for row in rows]
    loss, gradients = loss_and_gradient(model, rows, hold_out)
    other, others = loss_and_gradient(model, changed, hold_out)
    assert loss > 0
    torch.testing.assert_close(loss, other)
    torch.testing.assert_close(gradients, others)


def test_padding_values_do_not_reach_the_loss(model: SequentialRecommender) -> None:
    torch.testing.assert_close(loss_and_gradient(model, ROWS, 0, fill=3), loss_and_gradient(model, ROWS, 0, fill=17))


def test_rows_too_short_to_learn_from(model: SequentialRecommender) -> None:
    loss, gradients = loss_and_gradient(model, [[4], [8]], 0)
    assert loss == 0
    assert not any(gradient.any() for gradient in gradients)
    loss, _ = loss_and_gradient(model, ROWS, hold_out=7)
    assert loss == 0


def test_uniform_scores_lose_ln_n(model: SequentialRecommender) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert loss_and_gradient(model, ROWS, 0)[0].item() == pytest.approx(math.log(N), abs=1e-5)


def test_drop_last() -> None:
    mask = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])
    assert drop_last(mask, 0).equal(mask)
    assert drop_last(mask, 1).tolist() == [[True, True, False], [False] * 3, [False] * 3]
    assert drop_last(mask, 9).tolist() == [[False] * 3] * 3


def test_last_states() -> None:
    states = torch.arange(12.0).reshape(2, 3, 2)
    assert last_states(states, torch.tensor([[True, True, False], [True, True, True]])).tolist() == [[2.0, 3.0], [10.0, 11.0]]


def test_seen_penalty_counts_an_item_once() -> None:
    penalty = SeenPenalty(start=2.0)
    logits = penalty(torch.zeros(2, 4), torch.tensor([[1, 1, 3], [0, 2, 0]]), torch.tensor([[True, True, True], [True, False, False]]))
    assert logits.tolist() == [[0, -2, 0, -2], [-2, 0, 0, 0]]
    logits.sum().backward()
    # Three entries were lowered by ten times what is stored.
    assert penalty.scaled.grad is not None
    assert penalty.scaled.grad.item() == -30


def test_seen_penalty_names_what_it_lowers() -> None:
    items, mask = torch.tensor([[1, 1, 3], [0, 2, 0]]), torch.tensor([[True, True, True], [True, False, False]])
    row, item, amount = SeenPenalty(start=2.0).lowered(items, mask, 4)
    assert (row.tolist(), item.tolist(), amount.item()) == ([0, 0, 1], [1, 3, 0], 2.0)


@pytest.mark.parametrize("kind", [SASRec, BERT4Rec, FDSA])
def test_penalty_is_the_only_difference(kind: type[SASRec | BERT4Rec | FDSA]) -> None:
    plain = kind(catalogue_size=N, width=8, blocks=1, heads=2, max_history=S, dropout=0.0).eval()
    penalised = kind(catalogue_size=N, width=8, blocks=1, heads=2, max_history=S, dropout=0.0, seen_penalty=True).eval()
    penalised.load_state_dict(plain.state_dict(), strict=False)
    difference = (plain.scores(*batch(ROWS)) - penalised.scores(*batch(ROWS))).round(decimals=4)
    assert difference.tolist() == [[3.0 if item in row else 0.0 for item in range(N)] for row in ROWS]
