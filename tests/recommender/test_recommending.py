"""`Laser.evaluate`, `recommend` and `recommend_texts`: ids and titles out, what is excluded, what is refused."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_shop
import torch
from small_shop import IDS, RING, after

from laserrec import Dataset, Laser
from laserrec.errors import DataError, UnknownIdError
from laserrec.laser.folder import ModelFolder
from laserrec.laser.item_map import principal_plane
from laserrec.laser.system import LaserSystem

UNTITLED = IDS.index("untitled")
TITLES = {item_id: title or item_id for item_id, title, _ in small_shop.ITEMS}


def scores(laser: Laser, *histories: list[str]) -> list[dict[str, float]]:
    """Every item's score after each history."""
    return [{found.item_id: found.score for found in row} for row in laser.recommend(histories, k=100, exclude_seen=False)]


def test_every_item_once_best_first_with_its_title(trained: Laser) -> None:
    (found,) = trained.recommend([["tent", "stove"]], k=100, exclude_seen=False)
    assert sorted(item.item_id for item in found) == sorted(IDS)
    assert [item.score for item in found] == sorted((item.score for item in found), reverse=True)
    assert {item.item_id: item.title for item in found} == TITLES
    assert trained.title("untitled") == "untitled"
    assert trained.title("map") == "Map of the Alps"


def test_vectors_and_experts(trained: Laser) -> None:
    vectors = trained.item_vectors()
    assert vectors.shape == (len(IDS), 32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    histories = [after(start, 5) for start in range(8)]
    together = trained.experts(histories)
    assert together == [expert for history in histories for expert in trained.experts([history]) or []]
    assert set(together or []) <= {0, 1}
    with pytest.raises(UnknownIdError):
        trained.experts([["tents"]])


def test_histories_that_were_read_once_are_ranked_without_the_language_model(trained: Laser, monkeypatch: pytest.MonkeyPatch) -> None:
    histories = [after(0, 5), ["untitled"], after(3, 12), ["never-bought", "map"]]
    expected = trained.recommend(histories, k=5, only=IDS[1:])
    encoded = trained.encode_histories(histories)
    assert encoded.experts == trained.experts(histories)
    assert encoded.states.shape == (4, 32)
    monkeypatch.setattr(trained._system.catalogue.texts.reader, "read", None)  # whoever calls it fails
    assert trained.recommend(histories, k=5, only=IDS[1:], states=encoded.states) == expected
    (alone,) = trained.recommend(histories[1:2], k=5, only=IDS[1:], states=encoded.states[1:2])
    assert [item.item_id for item in alone] == [item.item_id for item in expected[1]]
    with pytest.raises(DataError, match=r"float32 \[4, 32\]; expected.*float32 \[1, 32\]"):
        trained.recommend([["map"]], states=encoded.states)
    with pytest.raises(UnknownIdError):
        trained.encode_histories([["tents"]])


def test_cold_items_are_those_without_an_interaction(laser: Laser) -> None:
    assert [item_id for item_id in IDS if laser.is_cold(item_id)] == ["never-bought"]
    before = laser.fingerprint()
    laser.add_items([{"item_id": "boat", "title": "Boat"}])
    assert laser.is_cold("boat")
    assert laser.fingerprint() == before
    with pytest.raises(UnknownIdError):
        laser.is_cold("boats")


def test_models_of_other_weights_have_another_fingerprint(laser: Laser, trained: Laser) -> None:
    assert laser.fingerprint() == trained.fingerprint()
    with torch.no_grad():
        next(laser._system.model.parameters()).add_(1e-3)
    assert laser.fingerprint() != trained.fingerprint()


def test_what_was_seen_is_left_out_unless_asked_for(trained: Laser) -> None:
    history = ["tent", "kite", "tent"]
    (left,), (whole,) = trained.recommend([history], k=100), trained.recommend([history], k=100, exclude_seen=False)
    assert left == [item for item in whole if item.item_id not in history]
    assert len(whole) - len(left) == 2


def test_k_cuts_the_list_and_a_history_of_everything_leaves_nothing(trained: Laser) -> None:
    (ten,), (three,) = trained.recommend([["map"]]), trained.recommend([["map"]], k=3)
    assert len(ten) == 10
    assert three == ten[:3]
    assert trained.recommend([IDS]) == [[]]
    assert [item.item_id for item in trained.recommend([IDS[1:]])[0]] == ["tent"]
    assert trained.recommend([]) == []


def test_histories_of_any_length_side_by_side_do_not_disturb_each_other(trained: Laser) -> None:
    histories = [after(0, 1), after(3, 11), ["untitled"], ["never-bought"], [*after(1, 9), *after(4, 9)]] * 30
    together = scores(trained, *histories)
    for row, history in zip(together[:5], histories[:5], strict=True):
        (alone,) = scores(trained, history)
        assert row == pytest.approx(alone, abs=1e-4)
    assert len(together) == 150


def test_only_the_most_recent_items_are_read(trained: Laser) -> None:
    # 4 of them as text, 10 by the sequential recommender; the seen items' penalty reaches back to the first.
    recent = after(0, 10)
    short, longer = scores(trained, recent, ["untitled", *recent])
    penalised = {item_id: score for item_id, score in short.items() if item_id != "untitled"}
    assert {item_id: longer[item_id] for item_id in penalised} == pytest.approx(penalised, abs=1e-5)
    assert longer["untitled"] < short["untitled"]


def test_an_unknown_id_is_answered_with_the_closest_known_ones(trained: Laser) -> None:
    with pytest.raises(UnknownIdError, match=r"'compas'.*'compass'"):
        trained.recommend([["tent"], ["tent", "compas"]])
    with pytest.raises(UnknownIdError, match=r"Unknown item id 'tents'.*'tent'"):
        trained.title("tents")
    with pytest.raises(UnknownIdError, match="No known id is similar"):
        trained.recommend([["§§§"]])


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize(
    ("only", "without"),
    [
        (["tent", "map", "rope", "spade"], None),
        (None, {"kite", "compass"}),
        (("tent", "map", "rope", "spade"), ["map", "kite"]),
        (["tent"], ["tent"]),
        ([], None),
        (None, []),
    ],
)
def test_only_what_may_be_recommended_is(
    trained: Laser, only: Collection[str] | None, without: Collection[str] | None, exclude_seen: bool
) -> None:
    histories = [["tent", "stove"], ["map"]]
    allowed = set(IDS if only is None else only) - set(without or [])
    whole = trained.recommend(histories, k=100, exclude_seen=exclude_seen)
    found = trained.recommend(histories, k=3, exclude_seen=exclude_seen, only=only, without=without)
    assert found == [[item for item in row if item.item_id in allowed][:3] for row in whole]
    texts = trained.recommend_texts([["Boat"]], k=3, only=only, without=without)
    assert texts == [[item for item in row if item.item_id in allowed][:3] for row in trained.recommend_texts([["Boat"]], k=100)]


def test_candidates_that_are_no_known_ids_are_refused(laser: Laser) -> None:
    for name in ("only", "without"):
        with pytest.raises(UnknownIdError, match=r"'compas'.*'compass'"):
            laser.recommend([["tent"]], **{name: ["map", "compas"]})  # type: ignore[arg-type]
        with pytest.raises(UnknownIdError, match=r"'compas'.*'compass'"):
            laser.recommend_texts([["Boat"]], **{name: ["compas"]})  # type: ignore[arg-type]
        for ids in ("map", [7], [None]):
            with pytest.raises(DataError, match=rf"Received {name} = .*expected is a collection of item ids"):
                laser.recommend([["tent"]], **{name: ids})  # type: ignore[arg-type]
    assert len(laser.catalogue) == len(IDS)


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(trained: Laser, k: int) -> None:
    with pytest.raises(DataError, match=f"k = {k}"):
        trained.recommend([["tent"]], k=k)
    with pytest.raises(DataError, match=f"k = {k}"):
        trained.recommend_texts([["Tent"]], k=k)


def test_an_empty_history_is_refused(trained: Laser) -> None:
    with pytest.raises(DataError, match="empty history"):
        trained.recommend([["tent"], []])
    with pytest.raises(DataError, match="empty history"):
        trained.recommend_texts([[], ["Tent"]])


def test_a_bare_string_is_not_taken_for_a_history_of_letters(trained: Laser) -> None:
    with pytest.raises(DataError, match=r"Received 'tent'; expected is a list of histories"):
        trained.recommend(["tent"])
    with pytest.raises(DataError, match=r"Received 'Tent'; expected is a list of histories"):
        trained.recommend_texts(["Tent"])
    with pytest.raises(DataError, match=r"Received 'Tent'; expected is a list of histories"):
        trained.recommend_texts("Tent")


def test_texts_outside_the_catalogue(laser: Laser) -> None:
    before, catalogue = scores(laser, ["tent", "map"]), laser.catalogue
    one, two = laser.recommend_texts([["Sailing boat", "Anchor, 3 kg"], ["Kite"]], k=100)
    for found in (one, two):
        assert sorted(item.item_id for item in found) == sorted(IDS)
        assert {item.item_id: item.title for item in found} == TITLES
    assert [item.score for item in one] != [item.score for item in two]
    assert laser.recommend_texts([["Sailing boat", "Anchor, 3 kg"], ["Kite"]], k=100) == [one, two]
    assert laser.recommend_texts([]) == []
    assert (laser.catalogue, laser.item_ids) == (catalogue, IDS)
    assert scores(laser, ["tent", "map"]) == before


def test_threads_that_ask_for_ids_and_texts_at_once_get_what_one_gets(laser: Laser) -> None:
    histories = [after(place, 1 + place % 5) for place in range(11)]
    texts = [[f"Boat {place}"] * (1 + place % 3) for place in range(11)]
    ids_alone, texts_alone = [scores(laser, history) for history in histories], [laser.recommend_texts([row]) for row in texts]
    with ThreadPoolExecutor(4) as threads:
        asked = [
            (threads.submit(scores, laser, history), threads.submit(laser.recommend_texts, [row]))
            for history, row in zip(histories, texts, strict=True)
        ]
        answers = [(ids.result(), found.result()) for ids, found in asked]
    assert [ids for ids, _ in answers] == ids_alone
    assert [found for _, found in answers] == texts_alone


def test_what_is_saved_is_the_model_at_one_moment(laser: Laser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, catalogue = ModelFolder.write, laser.catalogue

    def grow_first(stored: ModelFolder, folder: Path) -> None:
        laser.add_items([{"item_id": "canoe", "title": "Canoe"}])
        write(stored, folder)

    monkeypatch.setattr(ModelFolder, "write", grow_first)
    laser.save(tmp_path / "model")
    assert Laser.load(tmp_path / "model").catalogue == catalogue


@pytest.mark.parametrize(
    ("texts", "k"),
    [([["Boat"], []], 5), ([["Boat"]], 0), ([["Boat", None]], 5), ([["Boat", 7]], 5), ([["Boat", "\ud800"]], 5)],
)
def test_texts_that_are_refused_leave_the_catalogue_as_it_was(laser: Laser, texts: Any, k: int) -> None:  # noqa: ANN401
    before, catalogue = scores(laser, ["tent", "map"]), laser.catalogue
    with pytest.raises(DataError):
        laser.recommend_texts(texts, k)
    assert (laser.catalogue, laser.item_ids) == (catalogue, IDS)
    assert scores(laser, ["tent", "map"]) == before
    laser.add_items([{"item_id": "new", "title": "Boat"}])
    assert laser.title("new") == "Boat"


def test_evaluating_ranks_what_recommending_shows(trained: Laser, data: Dataset) -> None:
    evaluation = trained.evaluate(data)
    cases = data.cases("test")
    for case, user in enumerate(cases.users):
        history, target = [IDS[item] for item in cases.histories[case]], IDS[cases.targets[case]]
        assert (history, target) == (after(int(user), 6), RING[(user + 6) % 11])
        for protocol, exclude_seen in (("full", False), ("filter_seen", True)):
            (found,) = trained.recommend([history], k=100, exclude_seen=exclude_seen)
            assert evaluation.ranks[protocol][case] == 1 + [item.item_id for item in found].index(target)  # type: ignore[index]
    assert len(evaluation.users) == 11
    assert evaluation.metrics()["mrr"] == pytest.approx(np.mean(1 / evaluation.ranks["full"]))
    assert dict(evaluation.about) == {"model": "Laser", "dataset": "shop", "fingerprint": data.fingerprint, "split": "test"}
    assert trained.evaluate(data, "valid").about["split"] == "valid"


def test_a_large_catalogue_is_scored_for_few_histories_at_a_time(trained: Laser, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    histories, scored = [after(place, 1 + place % 5) for place in range(11)], LaserSystem.scores
    recommended, evaluated = trained.recommend(histories, k=100), trained.evaluate(data)
    sizes: list[int] = []

    def noted(laser: LaserSystem, items: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        sizes.append(len(items))
        return scored(laser, items, mask)

    monkeypatch.setattr(LaserSystem, "scores", noted)
    # 12 items: 4 histories of them are 48 scores; not even one history's scores are fewer than 11.
    # Evaluation scores one history first, which tells it how many items there are.
    for held, asked, tested in ((48 + 11, [4, 4, 3], [1, 4, 4, 2]), (11, [1] * 11, [1] * 11)):
        monkeypatch.setattr("laserrec.evaluation.ranking.SCORES_HELD", held)
        sizes.clear()
        for row, whole in zip(trained.recommend(histories, k=100), recommended, strict=True):
            assert {item.item_id: item.score for item in row} == pytest.approx({item.item_id: item.score for item in whole}, abs=1e-4)
        assert sizes == asked
        again = trained.evaluate(data)
        assert sizes == asked + tested
        assert all((again.ranks[protocol] == evaluated.ranks[protocol]).all() for protocol in evaluated.ranks)
        assert again.lists == evaluated.lists


def test_another_dataset_is_not_evaluated(laser: Laser, data: Dataset) -> None:
    with pytest.raises(DataError, match=r"fingerprint .*'shop'.*its own dataset"):
        laser.evaluate(small_shop.dataset(users=10))
    with pytest.raises(DataError):
        laser.evaluate(Dataset.build("upside down", data.items.reverse(), data.interactions, data.split))
    laser.add_items([{"item_id": "new", "title": "New"}])
    with pytest.raises(DataError, match="The catalogue has changed"):
        laser.evaluate(data)


def test_histories_that_the_prefix_does_not_know(trained: Laser) -> None:
    history = ["tent", "stove", "map"]
    encoded = trained.encode_histories([history], collaborative_prefix=False)
    (found,) = trained.recommend([history], k=100, exclude_seen=False, states=encoded.states)
    (expected,) = trained.explain([history], [IDS])
    scores = {item.item_id: item.score for item in found}
    assert [scores[one.item_id] for one in expected] == pytest.approx([one.without_prefix for one in expected], abs=1e-4)
    assert any(abs(one.prefix_moves or 0) > 1e-3 for one in expected)


def test_the_map_holds_what_is_left_of_the_catalogue_evenly(laser: Laser) -> None:
    found = laser.item_map()
    assert (found.catalogue, list(found.item_ids)) == (len(IDS), IDS)
    assert [found.titles[IDS.index(item_id)] for item_id in ("map", "untitled")] == ["Map of the Alps", "untitled"]
    places, explained = principal_plane(laser.item_vectors())
    np.testing.assert_allclose(found.places, places, atol=1e-6)
    assert found.explained == pytest.approx(explained)
    laser.remove_items(["stove"])
    few = laser.item_map(4, without={"tent"})
    assert (few.catalogue, list(few.item_ids)) == (10, ["bag", "bottle", "spade", "never-bought"])  # places 0, 3, 6 and 9 of what is left
    assert few.places.shape == (4, 2)
    assert laser.item_map(without=laser.item_ids).places.shape == (0, 2)
    for limit in (0, 2.5):
        with pytest.raises(DataError, match=r"limit = .*whole number from 1"):
            laser.item_map(limit)  # type: ignore[arg-type]
    with pytest.raises(UnknownIdError):
        laser.item_map(without=["tents"])


def test_a_mask_chooses_as_the_ids_do(trained: Laser) -> None:
    chosen = IDS[2:9:2]
    mask = np.array([item_id in chosen for item_id in trained.item_ids])
    assert trained.recommend([["tent"], ["map"]], k=3, only=mask) == trained.recommend([["tent"], ["map"]], k=3, only=chosen)
    assert trained.recommend_texts([["Boat"]], k=3, only=mask) == trained.recommend_texts([["Boat"]], k=3, only=chosen)
    with pytest.raises(DataError, match=r"Received only = bool \[3\]; expected is bool \[12\], an entry for each of item_ids"):
        trained.recommend([["tent"]], only=mask[:3])
    with pytest.raises(DataError, match=r"Received only = int64 \[12\]"):
        trained.recommend([["tent"]], only=mask.astype(np.int64))
