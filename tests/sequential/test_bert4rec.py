"""BERT4Rec: what is hidden in training, and that scoring is a Cloze question about the next item."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from laserrec.sequential.base import drop_last
from laserrec.sequential.bert4rec import BERT4Rec


def build(seen_penalty: bool = False) -> BERT4Rec:
    torch.manual_seed(0)
    model = BERT4Rec(catalogue_size=19, width=12, blocks=2, heads=3, max_history=6, dropout=0.0, seen_penalty=seen_penalty)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def test_states_see_both_sides() -> None:
    model, mask = build(), torch.ones(1, 4, dtype=torch.bool)
    one, other = model.states(torch.tensor([[1, 2, 3, 4]]), mask), model.states(torch.tensor([[1, 2, 3, 5]]), mask)
    assert not torch.allclose(one[:, 0], other[:, 0])


def test_scores_do_not_depend_on_the_room_left() -> None:
    model, row = build(), torch.tensor([[1, 2, 3, 4, 5, 6]])
    full = model.scores(row, torch.ones(1, 6, dtype=torch.bool))
    wide = model.scores(row[:, :4], torch.ones(1, 4, dtype=torch.bool))
    narrow = model.scores(row, torch.tensor([[True] * 4 + [False] * 2]))
    torch.testing.assert_close(wide, narrow)
    assert not torch.allclose(full, wide)


@pytest.mark.parametrize("seen_penalty", [False, True])
def test_hiding_the_last_item_is_scoring(monkeypatch: pytest.MonkeyPatch, seen_penalty: bool) -> None:
    model = build(seen_penalty)
    items, mask = torch.tensor([[4, 2, 7, 9]]), torch.ones(1, 4, dtype=torch.bool)
    monkeypatch.setattr(model, "hide", lambda kept: (kept, kept & ~drop_last(kept, 1)))
    torch.testing.assert_close(model.loss(items, mask, 0).mean, cross_entropy(model.scores(items[:, :3], mask[:, :3]), items[:, 3]))
    torch.testing.assert_close(model.loss(items, mask, 1).mean, cross_entropy(model.scores(items[:, :2], mask[:, :2]), items[:, 2]))


@pytest.mark.parametrize("hidden_share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("last_share", [0.0, 0.5, 1.0])
def test_every_row_hides_something_but_not_everything(monkeypatch: pytest.MonkeyPatch, hidden_share: float, last_share: float) -> None:
    model, real = build(), torch.arange(6) < torch.tensor([6, 4, 2, 1, 0])[:, None]
    monkeypatch.setattr(model, "hidden_share", hidden_share)
    monkeypatch.setattr(model, "last_share", last_share)
    lengths = set()
    for _ in range(40):
        kept, hidden = model.hide(real)
        assert not (kept & ~real).any()
        assert not (hidden & ~kept).any()
        assert not kept[3:].any()
        assert (hidden[:3].sum(1) >= 1).all()
        assert (hidden[:3].sum(1) < kept[:3].sum(1)).all()
        if last_share == 1:
            assert hidden.equal(kept & ~drop_last(kept, 1))
        lengths.add(int(kept[0].sum()))
    assert lengths == ({6} if last_share == 0 else {2, 3, 4, 5, 6})
