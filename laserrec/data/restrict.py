"""Harder datasets from a prepared one: fewer users to learn from, or items that nothing is learnt of but that they are there.

Test events stay, so that figures tell what learning from less costs: with fewer users the test cases are those of the whole dataset.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from laserrec.data.dataset import Dataset
from laserrec.data.events import BEFORE, Events
from laserrec.data.tables import SPLITS
from laserrec.errors import DataError

TRAIN, TEST = SPLITS.index("train"), SPLITS.index("test")


def keep_users(data: Dataset, share: float, seed: int = 0) -> Dataset:
    """Learn and validate on some users only; what the others did before their test event becomes history that is read and not learnt from.

    A larger share with the same seed holds all users of a smaller one.

    Args:
        data: the dataset.
        share: of the users who have training events, above 0 and at most 1; at least one user is kept.
        seed: of the draw.

    Returns:
        A dataset of the same catalogue, users, events and test cases.

    Raises:
        DataError: the share is not above 0, or above 1.
    """
    if not 0 < share <= 1:
        raise DataError(f"The share of users must be above 0 and at most 1; received {share}.")
    events = data.events
    splits = events.splits
    trained = np.unique(events.user[splits == TRAIN])
    kept = np.random.default_rng(seed).permutation(trained)[: max(1, round(share * len(trained)))]
    learnt = np.zeros(len(events.users), dtype=bool)
    learnt[kept] = True
    read_only = ~learnt[events.user] & (splits < TEST)
    split = np.where(read_only, BEFORE, splits).astype(np.int8)
    return _derived(data, replace(events, split=split), f"{100 * share:.3g}% of users", {"users": share, "seed": seed})


def hide_items(data: Dataset, share: float, seed: int = 0) -> Dataset:
    """Remove every event with some items from training and validation, so that only their texts can predict them in test.

    Test events stay, so their targets may be hidden items; histories lack them, as they would if the items had just come. The items stay in
    the catalogue, where they are no wrong answers to what knows items by their texts alone; models of ids, which could not tell one of
    them from another anyway, do meet them as wrong answers. Users whose whole history is hidden have no test case any more.

    Args:
        data: the dataset.
        share: of the catalogue, above 0 and below 1.
        seed: of the draw.

    Returns:
        A dataset of the same catalogue; users who are left without any event are left out.

    Raises:
        DataError: the share is outside its limits, or leaves nothing to learn from.
    """
    if not 0 < share < 1:
        raise DataError(f"The share of hidden items must be above 0 and below 1; received {share}.")
    events, count = data.events, len(data.item_ids)
    hidden = np.zeros(count, dtype=bool)
    hidden[np.random.default_rng(seed).choice(count, max(1, round(share * count)), replace=False)] = True
    kept = events.take((events.splits == TEST) | ~hidden[events.item])
    if not (kept.splits == TRAIN).any():
        raise DataError(f"{share:.0%} of the items are in all training events; hide fewer.")
    users, user = np.unique(kept.user, return_inverse=True)
    kept = replace(kept, users=kept.users.gather(users), user=user.astype(np.int64))
    return _derived(data, kept, f"{100 * share:.3g}% of items hidden", {"hidden_items": share, "seed": seed})


def _derived(data: Dataset, events: Events, how: str, parameters: dict[str, Any]) -> Dataset:
    restrictions = [*data.details.get("restricted", []), {"fingerprint": data.fingerprint, **parameters}]
    return Dataset.of(f"{data.name}, {how}", data.items, events, data.split, data.details | {"restricted": restrictions})
