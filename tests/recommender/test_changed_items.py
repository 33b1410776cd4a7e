"""`Laser.update_items`, `remove_items` and `similar_items`: at once, all or none, saved and loaded; others stay as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_shop import IDS

from laserrec import Laser
from laserrec.errors import DataError, UnknownIdError
from laserrec.text_cache.encoder import Encoder

NEW = [{"item_id": "canoe", "title": "Canoe", "brand": "Alp"}, {"item_id": "paddle", "title": "Paddle"}]


def table(laser: Laser, *histories: list[str]) -> list[dict[str, float]]:
    return [{found.item_id: found.score for found in row} for row in laser.recommend(histories, k=100, exclude_seen=False)]


def check_same(found: list[dict[str, float]], expected: list[dict[str, float]], *without: str) -> None:
    for row, wanted in zip(found, expected, strict=True):
        assert row == pytest.approx({item_id: score for item_id, score in wanted.items() if item_id not in without}, abs=1e-5)


def test_a_changed_text_is_read_and_its_item_ranked_by_it(laser: Laser) -> None:
    laser.add_items(NEW)
    before = table(laser, ["tent", "map"], ["canoe"])
    laser.update_items([{"item_id": "canoe", "title": "Sledge", "brand": "Alp"}, {"item_id": "map", "title": "Chart of the sea"}])
    assert (laser.title("canoe"), laser.title("map")) == ("Sledge", "Chart of the sea")
    assert laser.item_ids == [*IDS, "canoe", "paddle"]
    after = table(laser, ["tent", "stove"])[0]
    # Two cold items of one text.
    assert after["canoe"] == pytest.approx(after["never-bought"], abs=1e-5)
    laser.update_items([NEW[0], {"item_id": "map", "title": "Map of the Alps"}])
    check_same(table(laser, ["tent", "map"], ["canoe"]), before)


def test_others_score_as_before_a_change(laser: Laser) -> None:
    laser.add_items(NEW)
    before = table(laser, ["tent", "kite"])
    laser.update_items([{"item_id": "canoe", "title": "Kayak"}])
    (after,) = table(laser, ["tent", "kite"])
    assert after.pop("canoe") != before[0].pop("canoe")
    assert after == pytest.approx(before[0], abs=1e-6)


def test_only_texts_that_change_are_encoded(laser: Laser, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded, encode = list[int](), Encoder.encode
    table(laser, IDS)  # all are in memory

    def counted(encoder: Encoder, texts: list[torch.Tensor], *rest: Any) -> torch.Tensor:  # noqa: ANN401
        encoded.append(len(texts))
        return encode(encoder, texts, *rest)

    monkeypatch.setattr(Encoder, "encode", counted)
    laser.update_items([{"item_id": "tent", "title": "Tent", "brand": "Alp"}, {"item_id": "kite", "title": "Dragon"}])
    assert encoded == [1]


def test_a_removed_item_is_nowhere_and_others_score_as_before(laser: Laser) -> None:
    laser.add_items(NEW)
    before = table(laser, ["tent", "stove"], ["paddle"])
    laser.remove_items({"canoe", "kite"})  # one that came later, and one that was trained on
    assert laser.item_ids == [item_id for item_id in [*IDS, "paddle"] if item_id != "kite"]
    assert [item["item_id"] for item in laser.catalogue] == laser.item_ids
    assert laser.item_vectors().shape[0] == len(laser.item_ids)
    check_same(table(laser, ["tent", "stove"])[:1], before[:1], "canoe", "kite")
    after = table(laser, ["paddle"])[0]
    assert after.keys() == before[1].keys() - {"canoe", "kite"}
    similar = {found.item_id for item_id in laser.item_ids for found in laser.similar_items(item_id, 100)}
    assert similar == set(laser.item_ids)
    for ask in (lambda: laser.title("kite"), lambda: laser.recommend([["tent", "kite"]]), lambda: laser.similar_items("canoe")):
        with pytest.raises(UnknownIdError):
            ask()
    with pytest.raises(UnknownIdError):
        laser.recommend([["tent"]], only=["kite"])


def test_no_removed_item_speaks_for_a_cold_one(laser: Laser) -> None:
    """`never-bought` has the mean collaborative score of its five nearest warm items; with one of them gone the next one follows."""
    catalogue = laser._system.catalogue
    (nearest,) = catalogue.collaborative.nearest_warm.tolist()
    laser.remove_items([IDS[nearest[0]]])
    (after,) = laser._system.catalogue.collaborative.nearest_warm[:1].tolist()
    assert nearest[0] not in after
    assert set(nearest[1:]) < set(after)
    near = laser._system.catalogue.neighbours
    assert near is not None
    assert not near.weights[nearest[0]].any()
    assert not near.weights[near.items == nearest[0]].any()


def test_a_removed_id_may_come_back_as_another_item(laser: Laser, tmp_path: Path) -> None:
    laser.remove_items(["kite", "tent"])
    laser.add_items([{"item_id": "kite", "title": "Box kite"}])
    assert laser.item_ids == [*[item_id for item_id in IDS if item_id not in ("kite", "tent")], "kite"]
    assert laser.title("kite") == "Box kite"
    expected = table(laser, ["stove", "kite"])
    laser.save(tmp_path / "model")
    again = Laser.load(tmp_path / "model")
    assert again.catalogue == laser.catalogue
    check_same(table(again, ["stove", "kite"]), expected)
    np.testing.assert_allclose(again.item_vectors(), laser.item_vectors(), atol=1e-5)
    again.remove_items(["kite"])
    assert "kite" not in again.item_ids
    again.save(tmp_path / "model")
    assert Laser.load(tmp_path / "model").item_ids == again.item_ids


def test_everything_may_go_but_the_last(laser: Laser) -> None:
    laser.remove_items(IDS[1:])
    assert [item.item_id for item in laser.recommend([["tent"]], exclude_seen=False)[0]] == ["tent"]
    assert laser.recommend([["tent"]]) == [[]]
    assert laser.similar_items("tent") == []
    laser.add_items(NEW)
    assert {item.item_id for item in laser.recommend([["tent"]])[0]} == {"canoe", "paddle"}


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"item_id": "tnt", "title": "TNT"}, UnknownIdError, "'tnt'"),
        ({"item_id": "tent", "title": "Tent again"}, DataError, "give each item once"),
        ({"item_id": "map", "title": ""}, DataError, r"'map'\) has no text"),
        ({"title": "Nobody"}, DataError, "Item 2 has no item_id"),
    ],
)
def test_one_bad_change_and_none_is_made(laser: Laser, bad: dict[str, str], error: type[Exception], message: str) -> None:
    before, catalogue = table(laser, ["tent", "map"]), laser.catalogue
    with pytest.raises(error, match=message):
        laser.update_items([{"item_id": "tent", "title": "Changed"}, bad])
    assert (table(laser, ["tent", "map"]), laser.catalogue) == (before, catalogue)


@pytest.mark.parametrize(("ids", "error"), [(["tent", "tnt"], UnknownIdError), ("tent", DataError), ([None], DataError)])
def test_one_bad_id_and_none_is_removed(laser: Laser, ids: Any, error: type[Exception]) -> None:  # noqa: ANN401
    with pytest.raises(error):
        laser.remove_items(ids)
    assert laser.item_ids == IDS
    laser.remove_items([])
    assert laser.item_ids == IDS


def test_similar_items_are_those_of_the_highest_cosine(trained: Laser) -> None:
    vectors = trained.item_vectors()
    cosines = vectors @ vectors[3]
    expected = sorted((place for place in range(len(IDS)) if place != 3), key=lambda place: -cosines[place])[:4]
    found = trained.similar_items(IDS[3], 4)
    assert [item.item_id for item in found] == [IDS[place] for place in expected]
    assert [item.score for item in found] == pytest.approx(cosines[expected].tolist(), abs=1e-5)
    with pytest.raises(DataError, match="k = 0"):
        trained.similar_items("tent", 0)
