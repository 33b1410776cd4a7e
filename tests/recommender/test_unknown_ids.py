"""Unknown ids among many known ones."""

from __future__ import annotations

import pytest

from laserrec.errors import COMPARED, UnknownIdError

MANY = [f"item-{number:06d}" for number in range(3 * COMPARED)]


def test_all_are_compared_where_they_are_few() -> None:
    assert "'tent', 'rent'" in str(UnknownIdError("item", "tenta", ["tent", "rent", "map"]))


@pytest.mark.parametrize(
    ("unknown", "closest"),
    [
        ("item-0271x", "item-0271"),  # a slip at the end
        ("item-02710", "item-02710"),  # a letter short
        ("tem-027105", "item-027105"),  # the first letter left out
        ("ITEM-027105", "item-027105"),  # only the end is shared
        ("item-027105 ", "item-027105"),
    ],
)
def test_of_many_the_likeliest_are_compared(unknown: str, closest: str) -> None:
    assert f"closest known ids are '{closest}" in str(UnknownIdError("item", unknown, MANY))


@pytest.mark.parametrize("unknown", ["", "§§§", "\n", "item-0271\n03" * 9])
def test_nothing_alike_among_many(unknown: str) -> None:
    assert str(UnknownIdError("item", unknown, MANY)) == f"Unknown item id {unknown!r}. No known id is similar to it."
