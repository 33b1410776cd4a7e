"""Masks of what lists may hold are those that a look at each item gives, whatever changed since the last one."""

from __future__ import annotations

import random

from laserrec.serving.choices import KEPT, Choices
from laserrec.serving.shelf import Condition, Shelf
from laserrec.serving.store import Item

COLOURS = ("red", "green", "blue")


def test_masks_follow_every_change() -> None:
    draw = random.Random(5)
    ids = [f"i{number}" for number in range(30)]
    shelf = Shelf([{"item_id": item_id, "title": item_id} for item_id in ids])
    choices = Choices(shelf, lambda: ids)
    filters = [
        (only, conditions)
        for only in (None, frozenset(ids[:9]), frozenset(["i3", "unknown"]), frozenset[str]())
        for conditions in ((), (Condition("colour", frozenset(["red", "no"])),), (Condition("price", at_least=5.0, at_most=8.0),))
    ]
    for now in range(40):
        item_id = draw.choice([*ids, "new"])
        colour, price = draw.choice(COLOURS), str(draw.randrange(12))
        until = draw.choice([None, now + 3])
        if item_id == "new":
            ids.append(f"n{now}")
            item_id = ids[-1]
        shelf.put(Item(item_id, {"title": item_id, "colour": colour, "price": price}, draw.random() < 0.2, until))
        for only, conditions in filters:
            found = choices.allowed(only, conditions, now)
            expected = []
            for one in ids:
                item = shelf[one]
                seen = item.hidden or (item.available_until is not None and item.available_until <= now)
                values = [item.attributes.get(condition.attribute) for condition in conditions]
                fits = all(value is not None and one.admits(value) for one, value in zip(conditions, values, strict=True))
                expected.append(not seen and fits and (only is None or item.item_id in only))
            assert ([True] * len(ids) if found is None else found.tolist()) == expected


def test_the_same_filter_is_computed_once_and_the_number_of_masks_is_bounded() -> None:
    ids = ["a", "b"]
    choices = Choices(Shelf([{"item_id": item_id, "title": item_id} for item_id in ids]), lambda: ids)
    first = choices.allowed(frozenset(["a"]), (), 0)
    assert first is not None
    assert choices.allowed(frozenset(["a"]), (), 1) is first
    for number in range(KEPT + 5):
        choices.allowed(frozenset(["b", str(number)]), (), 0)
    assert len(choices) == KEPT
