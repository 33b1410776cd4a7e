"""Why an item has its score, over HTTP; answers of a named model; previews; the list of users."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from shop_service import running

from laserrec import Laser

HISTORY = ["tent", "map", "rope"]


def ask(client: TestClient, **body: object) -> dict[str, Any]:
    answer = client.post("/v1/recommendations", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def score(client: TestClient, history: list[str], item_id: str) -> float:
    return float(ask(client, items=history, only=[item_id], exclude_seen=False)["items"][0]["score"])


def test_the_terms_add_up_to_the_score_that_is_ranked_by(client: TestClient) -> None:
    plain = ask(client, items=HISTORY, k=12, exclude_seen=False)
    explained = ask(client, items=HISTORY, k=12, exclude_seen=False, explain=True)
    assert [item["item_id"] for item in explained["items"]] == [item["item_id"] for item in plain["items"]]
    assert {item["why"] for item in plain["items"]} == {None}
    for item, before in zip(explained["items"], plain["items"], strict=True):
        terms = [term for term in item["why"]["terms"].values() if term is not None]
        assert sum(terms) == pytest.approx(before["score"], abs=1e-4)
        assert (item["why"]["terms"]["seen_penalty"] < 0) == (item["item_id"] in HISTORY)
        assert item["why"]["expert"] in {0, 1}  # the shop's model has two


def test_a_move_is_the_difference_of_two_scores(client: TestClient) -> None:
    (kite,) = ask(client, items=HISTORY, only=["kite"], explain=True)["items"]
    whole = score(client, HISTORY, "kite")
    assert [move["title"] for move in kite["why"]["moves"]] == ["Tent", "Map of the Alps", "Rope [10 m]"]
    for move in kite["why"]["moves"]:
        without = score(client, [item_id for item_id in HISTORY if item_id != move["item_id"]], "kite")
        assert move["by"] == pytest.approx(whole - without, abs=1e-4)


def test_stored_histories_and_batches_are_explained_and_what_is_popular_is_not(client: TestClient) -> None:
    events = [{"user_id": "anna", "item_id": item_id} for item_id in HISTORY]
    assert client.post("/v1/events", json={"events": events}).json()["accepted"] == 3
    bodies = [{"user_id": "anna", "explain": True, "k": 2}, {"items": HISTORY, "k": 2}, {"user_id": "nobody", "explain": True}]
    personal, plain, popular = client.post("/v1/recommendations/batch", json={"requests": bodies}).json()["answers"]
    assert [item["item_id"] for item in personal["items"]] == [item["item_id"] for item in plain["items"]]
    assert [move["item_id"] for move in personal["items"][0]["why"]["moves"]] == HISTORY
    assert personal["items"][0]["title"] not in personal["items"][0]["why"]["sentence"]
    assert {item["why"] for item in popular["items"]} == {None}


def test_explanations_have_bounds(laser: Laser, tmp_path: Path) -> None:
    with running(laser, f"sqlite:///{tmp_path / 'a.db'}", explained_history=2) as client:
        assert ask(client, items=["tent", "map", "tent"], explain=True)["items"][0]["why"] is not None
        for body, said in (
            ({"items": HISTORY}, "= 3; at most 2 are allowed"),
            ({"texts": ["Boat"]}, "explain needs a history of item ids"),
        ):
            answer = client.post("/v1/recommendations", json={**body, "explain": True})
            assert (answer.status_code, answer.json()["error"]) == (422, "invalid")
            assert said in answer.json()["message"]


def test_a_named_model_answers_and_a_preview_is_not_counted(client: TestClient, model_folder: Path) -> None:
    added = client.post("/v1/models", json={"source": str(model_folder), "name": "second", "share": 0})
    assert added.status_code == 200, added.text
    assert ask(client, items=["tent"])["model"]["name"] == "default"
    assert ask(client, items=["tent"], model="second")["model"]["name"] == "second"
    assert ask(client, items=["tent"], model="second", preview=True)["items"]
    answer = client.post("/v1/recommendations", json={"items": ["tent"], "model": "third"})
    assert answer.status_code == 422
    assert answer.json()["message"] == "No model has this name; there are: default, second."
    time.sleep(0.5)  # answers are written every 0.2 s
    models = client.get("/v1/models").json()["models"]
    assert {model["name"]: model["answers"] for model in models} == {"default": 1, "second": 1}


def test_a_history_says_what_counts(client: TestClient) -> None:
    for kind in ("buy", "impression", "dislike"):
        assert client.post("/v1/events", json={"events": [{"user_id": "anna", "item_id": "tent", "kind": kind}]}).status_code == 200
    events = client.get("/v1/users/anna/history").json()["events"]
    assert [event["counts_as"] for event in events] == ["interest", "nothing", "dislike"]


def test_users_are_found_by_how_their_ids_begin(client: TestClient) -> None:
    for user in ("anna", "ben", "annika", "anna"):
        assert client.post("/v1/events", json={"events": [{"user_id": user, "item_id": "tent"}]}).status_code == 200
    assert client.get("/v1/users").json() == {"user_ids": ["anna", "annika", "ben"]}
    assert client.get("/v1/users?query=ann&k=1").json() == {"user_ids": ["anna"]}
    assert client.get("/v1/users?query=An").json() == {"user_ids": []}
    assert client.get("/v1/users?k=201").status_code == 422


def test_without_the_collaborative_prefix_scores_are_those_that_explanations_name(client: TestClient) -> None:
    body = {"items": ["tent", "stove"], "k": 20, "preview": True}
    explained = ask(client, **body, explain=True)["items"]
    for _ in range(2):  # read, and then kept
        bare = {item["item_id"]: item["score"] for item in ask(client, **body, collaborative_prefix=False)["items"]}
        assert bare == pytest.approx({item["item_id"]: item["why"]["without_prefix"] for item in explained}, abs=1e-4)
        known = {item["item_id"]: item["score"] for item in ask(client, **body)["items"]}
        assert known == pytest.approx({item["item_id"]: item["score"] for item in explained}, abs=1e-4)
    both = {"requests": [body, {**body, "collaborative_prefix": False}]}
    answers = client.post("/v1/recommendations/batch", json=both).json()["answers"]
    for answer, expected in zip(answers, (known, bare), strict=True):
        assert {item["item_id"]: item["score"] for item in answer["items"]} == pytest.approx(expected, abs=1e-4)
    for wrong in ({"items": ["tent"], "explain": True}, {"texts": ["tent"]}):
        refused = client.post("/v1/recommendations", json={**wrong, "collaborative_prefix": False})
        assert refused.status_code == 422
        assert "collaborative_prefix = false needs a history of item ids, and no explain" in refused.json()["message"]
