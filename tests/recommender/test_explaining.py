"""`Laser.explain`: ids and titles, against separate calls of `recommend`; what is refused; many threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from small_shop import IDS, after

from laserrec import Laser
from laserrec.errors import DataError, UnknownIdError

NEW = {"item_id": "canoe", "title": "Canoe", "brand": "Alp"}


def table(laser: Laser, *histories: list[str]) -> list[dict[str, float]]:
    """Every item's score after each history."""
    return [{found.item_id: found.score for found in row} for row in laser.recommend(histories, k=100, exclude_seen=False)]


def test_scores_terms_and_moves_of_warm_cold_and_seen_items(laser: Laser) -> None:
    laser.add_items([NEW])
    asked = ["map", "canoe", "never-bought", "tent"]  # warm, added, in the catalogue but never bought, seen
    history = ["tent", "canoe", "kite", "tent"]
    whole, *shorter = table(laser, history, ["canoe", "kite"], ["tent", "kite", "tent"], ["tent", "canoe", "tent"])
    (found,) = laser.explain([history], [asked])
    assert [one.item_id for one in found] == asked
    assert [one.title for one in found] == ["Map of the Alps", "Canoe", "Sledge", "Tent"]
    assert [one.cold for one in found] == [False, True, True, False]
    for one in found:
        assert one.score == one.terms.total == pytest.approx(whole[one.item_id], abs=1e-4)
        assert [(move.item_id, move.title) for move in one.moves] == [("tent", "Tent"), ("canoe", "Canoe"), ("kite", "Kite")]
        for move, left in zip(one.moves, shorter, strict=True):
            assert move.by == pytest.approx(whole[one.item_id] - left[one.item_id], abs=1e-4)
    assert [bool(one.terms.cold_start_bonus) for one in found] == [False, True, True, False]
    assert [(one.terms.seen_penalty or 0) < 0 for one in found] == [False, True, False, True]
    assert [one.expert for one in found] == (laser.experts([history]) or []) * 4
    assert {one.expert_probability for one in found} == {found[0].expert_probability}
    assert 0.5 <= (found[0].expert_probability or 0) <= 1  # of two


def test_the_bonus_is_what_a_model_without_one_lacks(laser: Laser) -> None:
    laser.cold_start_bonus = 2.0
    ((raised,),) = laser.explain([["tent"]], [["never-bought"]])
    laser.cold_start_bonus = 0.0
    ((level,),) = laser.explain([["tent"]], [["never-bought"]])
    assert level.terms.cold_start_bonus == 0
    assert raised.score - level.score == pytest.approx(raised.terms.cold_start_bonus, abs=1e-4)
    assert raised.terms.collaborative == pytest.approx(level.terms.collaborative, abs=1e-5)


def test_without_items_what_is_recommended_is_explained(trained: Laser) -> None:
    histories = [["tent", "stove"], ["map"]]
    choices: list[dict[str, Any]] = [{}, {"exclude_seen": False}, {"only": ["tent", "map", "rope"]}, {"without": {"kite"}}]
    for choice in choices:
        expected = trained.recommend(histories, k=3, **choice)
        for row, wanted in zip(trained.explain(histories, k=3, **choice), expected, strict=True):
            assert [(one.item_id, one.title) for one in row] == [(item.item_id, item.title) for item in wanted]
            assert [one.score for one in row] == pytest.approx([item.score for item in wanted], abs=1e-4)
    assert trained.explain([]) == []
    assert trained.explain([IDS]) == [[]]
    assert trained.explain([["tent"]], [[]]) == [[]]


def test_histories_together_are_explained_as_alone(trained: Laser) -> None:
    histories, asked = [after(0, 1), after(3, 7), ["never-bought"]], [["map", "kite"], ["tent"], ["rope", "untitled", "bag"]]
    for history, wanted, together in zip(histories, asked, trained.explain(histories, asked), strict=True):
        (alone,) = trained.explain([history], [wanted])
        assert [one.item_id for one in together] == wanted
        for one, other in zip(together, alone, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-4)
            assert [move.by for move in one.moves] == pytest.approx([move.by for move in other.moves], abs=1e-4)
            assert (one.without_prefix, one.expert_probability) == pytest.approx((other.without_prefix, other.expert_probability), abs=1e-4)


def test_an_item_without_a_title_goes_by_its_id(trained: Laser) -> None:
    ((one,),) = trained.explain([["untitled"]], [["untitled"]])
    assert (one.title, one.moves[0].title) == ("untitled", "untitled")
    assert one.sentence.startswith("untitled, your only item, moves the score by ")


def test_threads_explain_while_the_catalogue_changes(laser: Laser) -> None:
    histories = [after(place, 1 + place % 5) for place in range(8)]
    expected = [laser.explain([history], [["map", "never-bought"]]) for history in histories]
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(laser.explain, [history], [["map", "never-bought"]]) for history in histories]
        for place in range(3):
            laser.add_items([{"item_id": f"new-{place}", "title": f"Boat {place}"}])
        laser.remove_items(["new-1"])
        answers = [answer.result() for answer in asked]
    for answer, wanted in zip(answers, expected, strict=True):
        for one, other in zip(answer[0], wanted[0], strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-4)
            assert [move.by for move in one.moves] == pytest.approx([move.by for move in other.moves], abs=1e-4)


def test_unknown_and_removed_items(laser: Laser) -> None:
    with pytest.raises(UnknownIdError, match=r"'compas'.*'compass'"):
        laser.explain([["tent", "compas"]])
    with pytest.raises(UnknownIdError, match=r"'compas'.*'compass'"):
        laser.explain([["tent"]], [["compas"]])
    with pytest.raises(UnknownIdError, match="'compas'"):
        laser.explain([["tent"]], only=["compas"])
    laser.remove_items(["kite"])
    for history, asked in ((["kite"], ["tent"]), (["tent"], ["kite"])):
        with pytest.raises(UnknownIdError, match="'kite'"):
            laser.explain([history], [asked])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"histories": [["tent"], []]}, "empty history"),
        ({"histories": ["tent"]}, "Received 'tent'; expected is a list of histories"),
        ({"histories": [["tent"]], "k": 0}, "k = 0"),
        ({"histories": [["tent"]], "item_ids": ["map"]}, r"Received item_ids\[0\] = 'map'; expected is a collection of item ids"),
        ({"histories": [["tent"]], "item_ids": [["map"], ["map"]]}, "Received 1 histories and item_ids for 2; give one collection"),
        ({"histories": [["tent"]], "item_ids": [["map"]], "only": ["map"]}, "item_ids beside only or without"),
        ({"histories": [["tent"]], "item_ids": [["map"]], "without": []}, "item_ids beside only or without"),
    ],
)
def test_what_is_refused(trained: Laser, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        trained.explain(**arguments)


def test_more_than_a_call_answers_is_refused_before_anything_is_computed(trained: Laser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laserrec.laser.validation.EXPLAINED_AT_MOST", 12)
    # A history's repeated items count once: 3 different ones, and 4 to explain.
    assert len(trained.explain([["tent", "map", "kite", "tent"]], k=4)[0]) == 4
    monkeypatch.setattr("laserrec.laser.system.LaserSystem.embed", None)
    for arguments in ({"k": 5}, {"item_ids": [["rope"] * 5]}):
        with pytest.raises(DataError, match=r"Received 15 pairs of .* allowed are 12 a call\. Explain fewer items, shorten the histories"):
            trained.explain([["tent", "map", "kite"]], **arguments)  # type: ignore[arg-type]
    # Histories that nothing is asked of are read as well, and k is never more than there is.
    with pytest.raises(DataError, match=r"Received 13 pairs of .* of 13 histories"):
        trained.explain([["tent"]] * 13, [[]] * 13)
    with pytest.raises(DataError, match="Received 24 pairs"):
        trained.explain([["tent", "map"]], k=10**9)
