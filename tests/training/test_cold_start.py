"""What cold items get beyond the score of their nearest warm items is fitted on known items that are taken for new."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch.nn.functional import cross_entropy

from laserrec.errors import ConfigError
from laserrec.laser.scoring import GAIN
from laserrec.laser.system import LaserSystem
from laserrec.laser.validation import check_bonus
from laserrec.training import cold_start
from laserrec.training.calibration import pull
from laserrec.training.cold_start import fit_cold_start_bonus

NEW = (2, 7)
CASE = tiny.batch([[0, 1, 3], [3, 4], [5], [6, 8], [9], [2], [10, 11]])
"""One history, [2], holds no known item."""


def system(**score: Any) -> LaserSystem:  # noqa: ANN401 - settings of any type
    known = torch.ones(len(tiny.ITEMS), dtype=torch.bool)
    known[list(NEW)] = False
    laser = tiny.system(tiny.config(score={"standardise": True, **score}), known=known)
    laser.refresh()
    return laser


TARGETS = torch.tensor([1, 0, 4, 9, 3, 5, 2])


def fitted(laser: LaserSystem, monkeypatch: pytest.MonkeyPatch, *, long: bool = False) -> list[list[int]]:
    """Fit in two parts, as with a long catalogue or not, and return which items were taken for new each time."""
    monkeypatch.setattr(cold_start, "FOLDS", 2)
    monkeypatch.setattr(cold_start, "OTHERS", 0 if long else 100)
    seen: list[list[int]] = []
    plain = LaserSystem.with_cold
    with monkeypatch.context() as patch:
        patch.setattr(LaserSystem, "with_cold", lambda laser, items: (seen.append(items.tolist()), plain(laser, items))[1])
        fit_cold_start_bonus(laser, *CASE, TARGETS, seed=3)
    return seen


@pytest.mark.parametrize("long", [False, True])
def test_it_is_the_best_of_a_grid(monkeypatch: pytest.MonkeyPatch, long: bool) -> None:
    laser = tiny.start_at(system(), collaborative_weight=1.5)
    taken = fitted(laser, monkeypatch, long=long)
    assert len(taken) == (2 if long else 4)
    assert sorted(taken[0] + taken[1]) == [item for item in range(len(tiny.ITEMS)) if item not in NEW]
    found = float(laser.model.scorer.cold_start_bonus)
    assert abs(found) > 0.05

    def objective(bonus: float) -> float:
        laser.model.scorer.cold_start_bonus.fill_(bonus)
        total = pull(len(TARGETS)) * (bonus / GAIN) ** 2
        # The history without a known item, the sixth, says nothing of it, nor does the case of a new target, the last.
        for rows, new in zip([(0, 1, 2, 3), (4,)] * 2, taken, strict=False):
            logits = laser.with_cold(torch.tensor(new)).scores(*(part[list(rows)] for part in CASE))
            others = [item for item in range(len(tiny.ITEMS)) if item not in (*new, *NEW)]
            # Which of the items of each kind it is is not asked, and really new ones are no answers.
            kinds = torch.stack([logits[:, others].logsumexp(1), logits[:, new].logsumexp(1)], dim=1)
            wanted = torch.tensor([int(target in new) for target in TARGETS[list(rows)].tolist()])
            total += float(cross_entropy(kinds, wanted, reduction="sum")) / (len(TARGETS) * (1 if long else 2))
        return total

    best = objective(found)
    assert all(best < objective(found + step) for step in (-1.0, -0.3, -0.1, 0.1, 0.3, 1.0))


def test_nothing_else_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    laser = system()
    before = {name: tensor.clone() for name, tensor in laser.model.state_dict().items()}
    scored, nearest = laser.collaborative.scored.clone(), laser.collaborative.nearest_warm.clone()
    fitted(laser, monkeypatch)
    assert [name for name, tensor in laser.model.state_dict().items() if not torch.equal(before[name], tensor)] == [
        "scorer.cold_start_bonus"
    ]
    assert torch.equal(laser.collaborative.scored, scored)
    assert torch.equal(laser.collaborative.nearest_warm, nearest)


def test_where_no_item_taken_for_new_is_wanted_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    laser = system(cold_start_bonus=3.0)
    monkeypatch.setattr(cold_start, "FOLDS", 10)
    fit_cold_start_bonus(laser, *tiny.batch([[0, 1]]), torch.tensor([2]))
    assert float(laser.model.scorer.cold_start_bonus) == 0


def test_where_nothing_is_fused_or_hardly_anything_known_it_stays() -> None:
    for laser in (
        system(fuse_collaborative=False),
        tiny.start_at(system(), collaborative_weight=-1.0),
        tiny.system(tiny.config(), known=torch.arange(len(tiny.ITEMS)) < 9),
    ):
        laser.refresh()
        fit_cold_start_bonus(laser, *CASE, torch.zeros(7, dtype=torch.int64))
        assert float(laser.model.scorer.cold_start_bonus) == 0


def test_new_items_have_it_and_others_do_not() -> None:
    laser = system(cold_start_bonus=0.5)
    plain, raised = laser.collaborative.scores(*CASE), laser.other_terms(*CASE)[-1]
    assert raised is not None
    expected = plain.clone()
    expected[:5, list(NEW)] += 0.5
    expected[6, list(NEW)] += 0.5
    torch.testing.assert_close(raised, expected)
    assert not raised[5].any()  # nothing is known of that history


def test_it_is_set_where_a_score_is_fused() -> None:
    ids = [str(place) for place in range(len(tiny.ITEMS))]
    laser = system().serving(ids)
    other = laser.with_bonus(0.25)
    assert float(other.catalogue.tables()["scorer.cold_start_bonus"]) == 0.25
    assert float(laser.catalogue.tables()["scorer.cold_start_bonus"]) == 0  # what is being saved stays
    assert not torch.equal(other.scores(*CASE), laser.scores(*CASE))
    for none in (system(fuse_collaborative=False), tiny.system(tiny.config(), known=torch.zeros(len(tiny.ITEMS), dtype=torch.bool))):
        with pytest.raises(ConfigError, match="has no collaborative score"):
            none.serving(ids).with_bonus(0.25)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1e300, 10**400, True, "1", None])
def test_a_bonus_is_a_number_within_reason(wrong: Any) -> None:  # noqa: ANN401 - anything
    with pytest.raises(ConfigError, match="between -1000 and 1000"):
        check_bonus(wrong)
    assert check_bonus(np.float32(1.5)) == 1.5
