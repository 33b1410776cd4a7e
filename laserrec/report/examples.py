"""Show a few users: their history, the list recommended to them, and the item of their test event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from laserrec.data.dataset import Cases, Dataset
from laserrec.evaluation.metrics import Evaluation
from laserrec.laser.ranking_requests import Recommendation
from laserrec.recommender import Laser

LIST = 10
"""Items of a list."""


@dataclass(frozen=True)
class Example:
    """One user before their test event.

    Attributes:
        user: their id.
        history: titles, oldest first.
        target: id of the test event's item.
        following: its title.
        rank: its rank with seen items left out.
        repeated: whether the history has it already, so that a list without seen items cannot show it.
        found: best first, seen items left out.
    """

    user: str
    history: Sequence[str]
    target: str
    following: str
    rank: int
    repeated: bool
    found: Sequence[Recommendation]


def examples(laser: Laser, data: Dataset, cases: Cases, evaluation: Evaluation) -> list[Example]:
    """Recommend to users as of just before their test event.

    Args:
        laser: the trained model.
        data: its dataset.
        cases: the users.
        evaluation: the model's ranks of all test cases.
    """
    ranks = dict(zip(evaluation.users.tolist(), evaluation.ranks["filter_seen"].tolist(), strict=True))
    histories = [[data.item_ids[item] for item in history] for history in cases.histories]
    lists = laser.recommend(histories, k=LIST)
    targets = [data.item_ids[target] for target in cases.targets]
    return [
        Example(
            data.user_ids[user],
            [laser.title(item) for item in history],
            target,
            laser.title(target),
            ranks[user],
            target in history,
            found,
        )
        for user, history, target, found in zip(cases.users.tolist(), histories, targets, lists, strict=True)
    ]
