"""What Laser sees of the frozen sequential recommender, over a catalogue that holds items it never saw."""

from __future__ import annotations

from collections.abc import Callable

import tiny
import torch
from torch import Tensor

from laserrec.laser.collaborative_view import NEAREST_WARM, CollaborativeView
from laserrec.sequential.ensemble import Ensemble

UNKNOWN = (2, 7)


def between(directions: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Products of some items' vectors with all."""
    return lambda items: directions[items] @ directions.T


def view(unknown: tuple[int, ...] = UNKNOWN, catalogue: int = len(tiny.ITEMS)) -> CollaborativeView:
    known = torch.ones(catalogue, dtype=torch.bool)
    known[list(unknown)] = False
    return CollaborativeView(tiny.sasrec(), known)


def standard(raw: Tensor) -> Tensor:
    return (raw - raw.mean()) / ((raw - raw.mean()).square().mean()).sqrt()


def test_everything_is_frozen() -> None:
    frozen = view()
    assert not frozen.model.training
    assert not any(parameter.requires_grad for parameter in frozen.model.parameters())
    states, _ = frozen.states(*tiny.batch([[0, 1]]))
    assert not states.requires_grad


def test_unknown_items_leave_the_history() -> None:
    frozen = view()
    states, mask = frozen.states(*tiny.batch([[0, 2, 1], [7, 2], [7, 3]], fill=5))
    assert mask.tolist() == [[True, True, False], [False] * 3, [True, False, False]]
    torch.testing.assert_close(states[0, :2], frozen.model.states(*tiny.batch([[0, 1]]))[0])
    torch.testing.assert_close(states[2, :1], frozen.model.states(*tiny.batch([[3]]))[0])
    assert not states[1].any()


def test_items_beyond_the_catalogue_leave_the_history() -> None:
    frozen = view()
    states, mask = frozen.states(*tiny.batch([[0, 99, 1]]))
    assert mask.sum() == 2
    torch.testing.assert_close(states[:, :2], frozen.model.states(*tiny.batch([[0, 1]])))


def test_only_the_most_recent_known_items_are_read() -> None:
    frozen = view()
    states, mask = frozen.states(*tiny.batch([[9, 8, 0, 2, 1, 3, 7, 4, 5]]))
    assert mask.shape == (1, 5)
    torch.testing.assert_close(states, frozen.model.states(*tiny.batch([[0, 1, 3, 4, 5]])))


def test_no_history_at_all() -> None:
    frozen = view()
    for items, mask in (tiny.batch([[], []]), tiny.batch([[], []], longest=2)):
        states, real = frozen.states(items, mask)
        assert states.shape[1] >= 1
        assert not real.any()
        assert not frozen.scores(items, mask).any()


def test_scores_are_standardised_over_known_items() -> None:
    frozen = view()
    known = [item for item in range(12) if item not in UNKNOWN]
    scores = frozen.scores(*tiny.batch([[0, 2, 1], [2, 7], [4]]))
    torch.testing.assert_close(scores[0, known], standard(frozen.model.scores(*tiny.batch([[0, 1]]))[0, known]))
    torch.testing.assert_close(scores[2, known], standard(frozen.model.scores(*tiny.batch([[4]]))[0, known]))
    assert not scores[1].any()
    assert not scores[:, list(UNKNOWN)].any()


def test_an_unknown_item_scores_as_its_nearest_warm_items() -> None:
    frozen = view()
    angle = torch.linspace(0, 3, 12)
    frozen = frozen.placed(lambda part: (angle[part, None] - angle).cos())
    # On a circle, the nearest known of 2 and of 7 by angle; 2 and 7 themselves are unknown.
    near = {2: {0, 1, 3, 4, 5}, 7: {5, 6, 8, 9, 10}}
    assert len(near[2]) == NEAREST_WARM
    scores = frozen.scores(*tiny.batch([[0, 1], [3, 2]]))
    for item, expected in ((2, near[2]), (7, near[7])):
        found = set(frozen.nearest_warm[UNKNOWN.index(item)].tolist())
        assert found - {4, 5, 9, 10} == expected - {4, 5, 9, 10}
        torch.testing.assert_close(scores[:, item], scores[:, sorted(found)].mean(1))


def test_fewer_known_items_than_nearest_warm_items() -> None:
    frozen = view(unknown=tuple(range(3, 12)))
    frozen = frozen.placed(between(torch.randn(12, 4)))
    assert frozen.nearest_warm.shape == (9, 3)
    assert frozen.scores(*tiny.batch([[0, 1]])).isfinite().all()


def test_new_items_extend_the_catalogue() -> None:
    frozen = view(unknown=())
    before = frozen.scores(*tiny.batch([[0, 1], [3]]))
    frozen = frozen.extended(2)
    directions = torch.eye(14)
    directions[12], directions[13] = directions[4], directions[6]
    directions[12, :3] += 0.1
    frozen = frozen.placed(between(directions))
    scores = frozen.scores(*tiny.batch([[0, 13, 1], [3, 12]]))
    torch.testing.assert_close(scores[:, :12], before)
    assert frozen.nearest_warm[0, 0] == 4
    assert frozen.nearest_warm[1, 0] == 6
    torch.testing.assert_close(scores[:, 12], scores[:, frozen.nearest_warm[0]].mean(1))


def test_alone_as_in_a_batch_of_longer_ones() -> None:
    frozen = view()
    rows = [[0], [1, 2, 3, 4, 5, 6], [7], [9, 7, 8]]
    scores = frozen.scores(*tiny.batch(rows, longest=8, fill=3))
    for number, row in enumerate(rows):
        torch.testing.assert_close(frozen.scores(*tiny.batch([row]))[0], scores[number], rtol=1e-4, atol=1e-5)


def test_scores_of_another_recommender() -> None:
    frozen, other = view(), tiny.sasrec()
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    case = tiny.batch([[0, 2, 1]])
    states = frozen.states(*case)[0]
    frozen = frozen.score_with(other, frozen.known)
    known = [item for item in range(12) if item not in UNKNOWN]
    torch.testing.assert_close(frozen.scores(*case)[0, known], standard(other.scores(*tiny.batch([[0, 1]]))[0, known]))
    assert torch.equal(frozen.states(*case)[0], states)
    assert not other.training
    assert not any(parameter.requires_grad for parameter in other.parameters())


def test_each_recommender_has_items_of_its_own() -> None:
    frozen, other = view(), tiny.sasrec()
    scored = frozen.known.clone()
    scored[0] = False
    frozen = frozen.score_with(other, scored)
    frozen = frozen.placed(between(torch.nn.functional.normalize(torch.randn(len(scored), 4), dim=-1)))
    case = tiny.batch([[0, 1]])
    _, mask = frozen.states(*case)
    assert mask.sum() == 2  # item 0's state is read
    scores = frozen.scores(*case)
    places = scored.nonzero()[:, 0]
    torch.testing.assert_close(scores[:, places], standard(other.scores(*tiny.batch([[1]]))[0, places])[None])
    unscored = (~scored).nonzero()[:, 0].tolist()
    torch.testing.assert_close(scores[0, 0], scores[0, frozen.nearest_warm[unscored.index(0)]].mean())


def test_scores_of_an_ensemble_that_knows_every_item_need_no_nearest_warm_items() -> None:
    config = tiny.config(collaborative={"width": 8, "blocks": 1, "heads": 2, "max_history": 5, "seen_penalty": False})
    known = torch.ones(len(tiny.ITEMS), dtype=torch.bool)
    known[list(UNKNOWN)] = False
    system = tiny.system(config, known=known)
    system.model.item_states.normal_()
    system.model.load_state_dict(system.model.state_dict())
    assert len(system.collaborative.nearest_warm) == len(UNKNOWN)
    # What a refit knows beside the held-out model: the items that occur in held-out events alone.
    system.score_with(Ensemble([tiny.sasrec()]), torch.ones_like(known))
    assert len(system.collaborative.nearest_warm) == 0
    case = tiny.batch([[0, 1]])
    raw = system.collaborative.scorer.scores(*case)
    torch.testing.assert_close(system.collaborative.scores(*case)[0], standard(raw[0]))


def circle(count: int) -> Tensor:
    angle = torch.linspace(0, 3, count)
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def test_items_are_placed_again_one_by_one() -> None:
    directions, frozen = circle(12), view()
    placed = frozen.placed(between(directions))
    turned = directions.clone()
    turned[2], turned[7] = turned[11], turned[0]
    only_two = placed.placed(between(turned), torch.tensor([2, 5]))  # 5 is warm
    assert set(only_two.nearest_warm[0].tolist()) == {11, 10, 9, 8, 6}
    assert torch.equal(only_two.nearest_warm[1], placed.nearest_warm[1])
    live = torch.arange(12) != 10
    assert set(placed.placed(between(turned), torch.tensor([2]), live).nearest_warm[0].tolist()) == {11, 9, 8, 6, 5}


def test_some_of_the_items_keep_what_they_have() -> None:
    directions = circle(16)
    placed = view().extended(4).placed(between(directions))
    assert placed.nearest_warm.shape == (6, NEAREST_WARM)
    taken = placed.take(torch.tensor([*range(12), 13, 15]))
    assert torch.equal(taken.nearest_warm, placed.nearest_warm[[0, 1, 3, 5]])
    assert taken.scored.tolist() == [item not in UNKNOWN for item in range(12)] + [False] * 2
    case = tiny.batch([[0, 13, 1]])
    torch.testing.assert_close(taken.scores(*tiny.batch([[0, 12, 1]])), placed.scores(*case)[:, [*range(12), 13, 15]])
