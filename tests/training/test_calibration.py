"""The score's scalars are fitted before training: against a grid, and only those that are trained."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from torch.nn.functional import cross_entropy

from laserrec.laser.scoring import GAIN
from laserrec.laser.system import LaserSystem
from laserrec.training.calibration import calibrate, in_batches, pull


def system(**score: Any) -> LaserSystem:  # noqa: ANN401 - settings of any type
    laser = tiny.system(tiny.config(score={"standardise": True, **score}))
    laser.refresh()
    return laser


def objective(laser: LaserSystem, case: tuple[torch.Tensor, torch.Tensor], targets: torch.Tensor, weight: float, start: float) -> float:
    terms = laser.score_terms(*case)
    assert terms.collaborative is not None
    scores = laser.model.scorer.scale * terms.cosines + weight * terms.collaborative
    seen = torch.zeros_like(scores)
    for row, (items, mask) in enumerate(zip(*case, strict=True)):
        seen[row, items[mask]] = 1.0
    scores = scores - 2.0 * seen
    return float(cross_entropy(scores, targets)) + pull(len(targets)) * ((weight - start) / GAIN) ** 2


def test_the_trust_is_the_best_of_a_grid() -> None:
    laser = system(nearest=False, lexical=False, learn_temperature=False)
    laser.model.scorer.seen_penalty.requires_grad_(False)  # type: ignore[union-attr]
    case = tiny.batch([[0, 1, 2], [3, 4], [5], [6, 7, 8], [2, 9], [1, 5]])
    collaborative = laser.collaborative.scores(*case)
    targets = collaborative.topk(3, dim=1).indices[:, 2]  # often high, never first: the weight has a best value
    calibrate(laser, *case, targets)
    found = float(laser.model.scorer.collaborative_weight.detach()) * GAIN  # type: ignore[union-attr]
    grid = [found + step for step in (-1.0, -0.3, -0.1, 0.1, 0.3, 1.0)]
    assert all(objective(laser, case, targets, found, 1.0) < objective(laser, case, targets, other, 1.0) for other in grid)
    assert abs(found - 1.0) > 0.01


def test_the_start_is_worth_as_much_with_few_cases() -> None:
    # Beside a mean over 1,000 cases it is a tenth of the squared distance: as a sum, 100 of them for however many cases.
    assert [cases * pull(cases) for cases in (1, 9, 84, 1000)] == pytest.approx([100.0] * 4)


def test_few_cases_do_not_turn_the_score_around() -> None:
    """One case whose answer is the farthest from the history and last by the collaborative score; without a pull both weights turn."""
    laser = tiny.start_at(system(), neighbour_weight=1.0)
    case = tiny.batch([[0, 1, 2]])
    terms = laser.score_terms(*case)
    assert terms.collaborative is not None
    targets = terms.collaborative.argmin(1)
    calibrate(laser, *case, targets)
    scorer = laser.model.scorer
    for weight in (scorer.collaborative_weight, scorer.neighbour_weight):
        assert weight is not None
        assert float(weight.detach()) > 0


def test_items_left_out_do_not_count() -> None:
    """Fitted over a catalogue whose other items are the worst of answers, as if they were not there."""
    case, targets = tiny.batch([[0, 1, 2], [3, 4], [5], [6, 7, 8]]), torch.tensor([3, 0, 1, 2])
    found = []
    for unpopular in (0.0, 30.0):
        laser = system(nearest=False, lexical=False)
        plain = laser.collaborative.scores
        lower = torch.zeros(len(tiny.ITEMS)).index_fill_(0, torch.tensor([9, 10, 11]), unpopular)
        laser.collaborative.scores = lambda items, mask, bonus, plain=plain, lower=lower: plain(items, mask, bonus) - lower  # type: ignore[method-assign]
        calibrate(laser, *case, targets, torch.tensor([9, 10, 11]))
        found.append([float(scalar.detach()) for scalar in laser.model.scorer.scalars])
    assert found[0] == found[1]


def test_what_is_not_trained_stays() -> None:
    laser = system(learn_temperature=False, nearest=False, lexical=False, fuse_collaborative=False, seen_penalty=False)
    before = {name: tensor.clone() for name, tensor in laser.model.state_dict().items()}
    calibrate(laser, *tiny.batch([[0, 1], [2]]), torch.tensor([3, 4]))
    assert all(torch.equal(before[name], tensor) for name, tensor in laser.model.state_dict().items())


@pytest.mark.parametrize(("items", "rows"), [(1, 64), (10_000, 64), (1_000_000, 10), (100_000_000, 1)])
def test_a_long_catalogue_is_scored_for_fewer_cases_at_a_time(items: int, rows: int) -> None:
    first = next(in_batches(items, torch.arange(200), torch.arange(200) * 2))
    assert [len(part) for part in first] == [rows, rows]
    assert first[1].tolist() == [2 * row for row in range(rows)]
