"""`Laser.add_items`: recommendable at once, saved and loaded, all or none."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from small_shop import IDS

from laserrec import Laser
from laserrec.errors import ConfigError, DataError

NEW = [
    {"item_id": "canoe", "title": "Canoe", "brand": "Alp"},
    {"item_id": "paddle, 2 m", "title": "Paddle", "colour": "red"},
    {"item_id": "bare", "brand": "Dig", "title": ""},
]


def table(laser: Laser, *histories: list[str]) -> list[dict[str, float]]:
    return [{found.item_id: found.score for found in row} for row in laser.recommend(histories, k=100, exclude_seen=False)]


def test_the_catalogue_before_is_let_go(laser: Laser) -> None:
    before = laser._system.catalogue
    gone = [weakref.ref(part) for part in (before, before.states, before.texts)]
    del before
    laser.add_items(NEW)
    gc.collect()
    assert [part() for part in gone] == [None, None, None]


@pytest.mark.parametrize("package", ["polars", "pandas"])
def test_items_of_a_table(laser: Laser, package: str) -> None:
    tables = pytest.importorskip(package)
    laser.add_items(tables.DataFrame({"item_id": ["canoe", "paddle"], "title": ["Canoe", None], "brand": ["Alp", "Dig"]}))
    assert laser.catalogue[-2:] == [{"item_id": "canoe", "title": "Canoe", "brand": "Alp"}, {"item_id": "paddle", "brand": "Dig"}]
    laser.update_items(tables.DataFrame({"item_id": ["canoe"], "title": ["Kayak"]}))
    assert laser.title("canoe") == "Kayak"


def test_a_table_that_hands_out_nothing(laser: Laser) -> None:
    class Broken:
        def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
            raise ValueError("no columns here")

    with pytest.raises(DataError, match=r"cannot be read as a table: no columns here\. No item was added\."):
        laser.add_items(Broken())


def test_new_items_are_recommended_and_read_at_once(laser: Laser) -> None:
    (before,) = table(laser, ["tent", "stove"])
    laser.add_items(NEW)
    ids = [*IDS, "canoe", "paddle, 2 m", "bare"]
    assert laser.item_ids == ids
    (after,) = table(laser, ["tent", "stove"])
    assert sorted(after) == sorted(ids)
    assert {item_id: after[item_id] for item_id in IDS} == pytest.approx(before, abs=1e-5)
    assert all(math.isfinite(score) for score in after.values())
    assert [laser.title(item_id) for item_id in ids[-3:]] == ["Canoe", "Paddle", "bare"]
    assert laser.catalogue[-2:] == [{"item_id": "paddle, 2 m", "title": "Paddle", "colour": "red"}, {"item_id": "bare", "brand": "Dig"}]
    (alone,) = laser.recommend([["canoe"]], k=100)
    assert sorted(item.item_id for item in alone) == sorted({*ids} - {"canoe"})
    assert table(laser, ["tent", "canoe"]) != table(laser, ["tent"])


def test_new_items_of_one_text_score_the_same(laser: Laser) -> None:
    laser.add_items([{"item_id": "one", "title": "Sledge", "brand": "Alp"}, {"item_id": "two", "title": "Sledge", "brand": "Alp"}])
    for row in table(laser, ["tent"], ["kite", "bag", "map"]):
        assert row["one"] == pytest.approx(row["two"], abs=1e-5)


def test_adding_at_once_or_one_after_the_other_is_the_same(laser: Laser, saved: Path) -> None:
    laser.add_items(NEW)
    other = Laser.load(saved)
    for item in NEW:
        other.add_items([item])
    other.add_items([])
    assert other.catalogue == laser.catalogue
    histories = [["tent", "canoe"], ["bare"]]
    for row, expected in zip(table(other, *histories), table(laser, *histories), strict=True):
        assert row == pytest.approx(expected, abs=1e-4)


def test_new_items_are_saved_and_loaded(laser: Laser, tmp_path: Path) -> None:
    laser.add_items(NEW)
    expected = table(laser, ["tent", "canoe"], ["bare"])
    laser.save(tmp_path / "grown")
    again = Laser.load(tmp_path / "grown")
    assert again.catalogue == laser.catalogue
    for row, wanted in zip(table(again, ["tent", "canoe"], ["bare"]), expected, strict=True):
        assert row == pytest.approx(wanted, abs=1e-5)
    again.add_items([{"item_id": "later", "title": "Later"}])
    assert again.item_ids[-2:] == ["bare", "later"]


def test_how_far_up_new_items_stand_can_be_set_and_is_saved(laser: Laser, tmp_path: Path) -> None:
    laser.add_items(NEW)
    new = {"never-bought", *(item["item_id"] for item in NEW)}  # of a training history's items the first eleven are all
    (before,) = table(laser, ["tent", "stove"])
    fitted = laser.cold_start_bonus
    laser.cold_start_bonus = fitted + 1
    (after,) = table(laser, ["tent", "stove"])
    rises = {item_id: after[item_id] - before[item_id] for item_id in before}
    assert {item_id for item_id, rise in rises.items() if rise > 1e-3} == new
    assert all(abs(rises[item_id]) < 1e-5 for item_id in rises.keys() - new)
    assert len({round(rises[item_id], 4) for item_id in new}) == 1
    laser.save(tmp_path / "grown")
    again = Laser.load(tmp_path / "grown")
    assert again.cold_start_bonus == pytest.approx(fitted + 1)
    with pytest.raises(ConfigError, match="between"):
        laser.cold_start_bonus = math.nan


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"title": "No id"}, "Item 2 has no item_id"),
        ({"item_id": "", "title": "Empty id"}, "Item 2 has no item_id"),
        ({"item_id": None, "title": "Empty id"}, "Item 2 has no item_id"),
        ({"item_id": "tent", "title": "Tent again"}, "'tent' is in use"),
        ({"item_id": "canoe", "title": "Twice"}, "'canoe', as one before it has"),
        ({"item_id": "mute"}, r"'mute'\) has no text"),
        ({"item_id": "mute", "title": "", "brand": None}, r"'mute'\) has no text"),
        ({"item_id": True, "title": "Truth"}, "Item 2 has no item_id: received True"),
        ({"item_id": "NA", "title": "Null mark"}, "Item 2 has no item_id: received 'NA'"),
        ({"item_id": "mute", "title": " &nbsp; "}, r"'mute'\) has no text"),
        ({"item_id": "mute", "colour": "red"}, r"'mute'\) has no text"),
        ({"item_id": "twice", "title": "One", "Title": "Two"}, "Item 2: 'title' is given twice"),
        ({"item_id": "half", "title": "\ud800"}, r"not text: \{'title': '\\ud800'\}"),
        ("item_id", "Item 2 is 'item_id'"),
    ],
)
def test_one_bad_item_and_none_is_added(laser: Laser, tmp_path: Path, bad: Any, message: str) -> None:  # noqa: ANN401
    catalogue, before = laser.catalogue, table(laser, ["tent", "map"])
    with pytest.raises(DataError, match=message) as refused:
        laser.add_items([NEW[0], bad])
    assert str(refused.value).endswith("No item was added.")
    check_unchanged(laser, catalogue, before)
    laser.save(tmp_path / "still")


def test_stopped_half_way_and_none_is_added(laser: Laser) -> None:
    catalogue, before = laser.catalogue, table(laser, ["tent", "map"])

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    hook = torch.nn.modules.module.register_module_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        laser.add_items(NEW)
    hook.remove()
    check_unchanged(laser, catalogue, before)


def check_unchanged(laser: Laser, catalogue: list[Mapping[str, str]] | list[dict[str, str]], before: list[dict[str, float]]) -> None:
    """As before, and still able to grow."""
    assert laser.catalogue == catalogue
    assert table(laser, ["tent", "map"]) == before
    laser.add_items(NEW)
    assert sorted(table(laser, ["canoe"])[0]) == sorted([*IDS, "canoe", "paddle, 2 m", "bare"])
