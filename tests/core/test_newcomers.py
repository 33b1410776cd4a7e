"""What new items get beyond the score of their stand-ins is fitted on known items that are taken for new."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from laserrec.nn.laser import LaserSystem
from laserrec.nn.scoring import GAIN
from laserrec.training import newcomers
from laserrec.training.calibrate import PULL
from laserrec.training.newcomers import fit_lift

NEW = (2, 7)
CASE = tiny.batch([[0, 1, 3], [3, 4], [5], [6, 8], [9], [2], [10, 11]])
"""One history, [2], holds no known item."""


def system(**score: Any) -> LaserSystem:  # noqa: ANN401 - settings of any type
    known = torch.ones(len(tiny.ITEMS), dtype=torch.bool)
    known[list(NEW)] = False
    laser = tiny.system(tiny.config(score={"standardise": True, **score}), known=known)
    laser.refresh()
    return laser


def taken(laser: LaserSystem, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Fit with three of the ten known items taken for new and return which they are."""
    monkeypatch.setattr(newcomers, "SHARE", 0.3)
    seen: list[Tensor] = []
    plain = type(laser.collaborative).without
    monkeypatch.setattr(type(laser.collaborative), "without", lambda view, items: (seen.append(items), plain(view, items))[1])
    fit_lift(laser, *CASE, torch.tensor([1, 0, 4, 9, 3, 5, 2]), seed=3)
    return sorted(seen[0].tolist())


def test_it_is_the_best_of_a_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    laser = system(trust=1.5)
    for_new = taken(laser, monkeypatch)
    assert len(for_new) == 3
    assert not set(for_new) & set(NEW)
    found = float(laser.model.scorer.lift)
    assert abs(found) > 0.05
    targets = torch.tensor([1, 0, 4, 9, 3, 5, 2])
    laser.collaborative.scored = laser.collaborative.scored.index_fill(0, torch.tensor(for_new), False)
    laser.place_new()

    def objective(lift: float) -> float:
        laser.model.scorer.lift.fill_(lift)
        # Really new items are no answers; the history without a known item says nothing of lifts, nor does the case of a new target.
        logits = laser.scores(*CASE).index_fill(1, torch.tensor(NEW), -torch.inf)[:5]
        # Which of the items of each kind it is is not asked.
        kinds = torch.zeros(5, 2)
        kinds[:, 1] = logits[:, for_new].logsumexp(1)
        others = [item for item in range(len(tiny.ITEMS)) if item not in for_new]
        kinds[:, 0] = logits[:, others].logsumexp(1)
        wanted = torch.tensor([int(target in for_new) for target in targets[:5].tolist()])
        return float(cross_entropy(kinds, wanted, reduction="sum")) / len(targets) + PULL * (lift / GAIN) ** 2

    best = objective(found)
    assert all(best < objective(found + step) for step in (-1.0, -0.3, -0.1, 0.1, 0.3, 1.0))


def test_nothing_else_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    laser = system()
    before = {name: tensor.clone() for name, tensor in laser.model.state_dict().items()}
    scored, stand_ins = laser.collaborative.scored.clone(), laser.collaborative.stand_ins.clone()
    taken(laser, monkeypatch)
    assert [name for name, tensor in laser.model.state_dict().items() if not torch.equal(before[name], tensor)] == ["scorer.lift"]
    assert torch.equal(laser.collaborative.scored, scored)
    assert torch.equal(laser.collaborative.stand_ins, stand_ins)


def test_where_nothing_is_fused_or_hardly_anything_known_it_stays() -> None:
    for laser in (system(fuse_collaborative=False), tiny.system(tiny.config(), known=torch.arange(len(tiny.ITEMS)) < 9)):
        laser.refresh()
        fit_lift(laser, *CASE, torch.zeros(7, dtype=torch.int64))
        assert float(laser.model.scorer.lift) == 0


def test_new_items_have_it_and_others_do_not() -> None:
    laser = system(new_items=0.5)
    plain, lifted = laser.collaborative.scores(*CASE), laser.beside(*CASE)[1]
    assert lifted is not None
    expected = plain.clone()
    expected[:5, list(NEW)] += 0.5
    expected[6, list(NEW)] += 0.5
    torch.testing.assert_close(lifted, expected)
    assert not lifted[5].any()  # nothing is known of that history
