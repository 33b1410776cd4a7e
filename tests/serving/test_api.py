"""The service over HTTP: recommendations, events, users and items, on a tiny trained model."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.testclient import TestClient
from shop_service import running
from small_shop import IDS, after

from laserrec import Laser


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def ask(client: TestClient, **body: object) -> dict[str, Any]:
    answer = client.post("/v1/recommendations", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def send(client: TestClient, *events: dict[str, Any]) -> dict[str, Any]:
    answer = client.post("/v1/events", json={"events": events})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def take(client: TestClient, user_id: str, *item_ids: str, kind: str = "buy") -> None:
    assert send(client, *({"user_id": user_id, "item_id": item_id, "kind": kind} for item_id in item_ids))["accepted"] == len(item_ids)


def test_a_stored_history_and_the_same_one_in_the_body_give_what_the_model_gives(client: TestClient, laser: Laser) -> None:
    for start in range(6):
        history = after(start, 4)
        take(client, f"user-{start}", *history)
        (expected,) = laser.recommend([history], k=5)
        for body in ({"user_id": f"user-{start}"}, {"items": history}):
            found = ask(client, k=5, **body)
            assert [(item["item_id"], item["title"]) for item in found["items"]] == [(item.item_id, item.title) for item in expected]
            assert [item["score"] for item in found["items"]] == pytest.approx([item.score for item in expected], abs=1e-4)
            assert {item["reason"] for item in found["items"] if item["item_id"] != "never-bought"} == {"personal"}
            assert found["model"] == {"name": "default", "version": laser.fingerprint()[:12]}
            assert found["unknown_items"] == []


def test_texts_are_a_history_too(client: TestClient, laser: Laser) -> None:
    (expected,) = laser.recommend_texts([["Boat", "Paddle"]], k=4)
    assert ids(ask(client, texts=["Boat", "Paddle"], k=4)) == [item.item_id for item in expected]


def test_an_event_changes_the_very_next_answer(client: TestClient) -> None:
    take(client, "anna", "tent")
    first = ids(ask(client, user_id="anna", k=12))
    assert "tent" not in first
    take(client, "anna", first[0])
    assert first[0] not in ids(ask(client, user_id="anna", k=12))
    assert first[0] in ids(ask(client, user_id="anna", k=12, exclude_seen=False))


def test_impressions_are_no_interest_and_what_is_disliked_does_not_come_back(client: TestClient, laser: Laser) -> None:
    take(client, "anna", "tent", "stove")
    before = ask(client, user_id="anna", k=12)
    take(client, "anna", ids(before)[1], kind="impression")
    assert ids(ask(client, user_id="anna", k=12)) == ids(before)
    take(client, "anna", ids(before)[0], kind="dislike")
    assert ids(ask(client, user_id="anna", k=12, exclude_seen=False)) == [
        item.item_id for item in laser.recommend([["tent", "stove"]], k=12, exclude_seen=False)[0] if item.item_id != ids(before)[0]
    ]


def test_without_a_usable_history_what_is_popular_comes_and_says_so(laser: Laser, tmp_path: Path) -> None:
    with running(laser, f"sqlite:///{tmp_path / 'a.db'}", popularity_seconds=0.05) as client:
        take(client, "anna", "map", "map", "map", "kite", "kite", "rope")
        time.sleep(0.3)
        for body in ({"user_id": "nobody"}, {"items": []}, {"items": ["boat"]}, {"texts": []}):
            found = ask(client, k=4, **body)
            assert ids(found) == ["map", "kite", "rope", "tent"]
            assert [item["score"] for item in found["items"]] == [3, 2, 1, 0]
            assert {item["reason"] for item in found["items"]} == {"popular"}
            assert found["unknown_items"] == body.get("items", [])
        assert ids(ask(client, items=[], k=2, without=["map"], filter={"brand": {"equals": "Alp"}})) == ["rope", "tent"]


FILTERS: list[tuple[dict[str, Any], set[str]]] = [
    ({"brand": {"equals": "Alp"}}, {"tent", "bag", "rope", "never-bought"}),
    ({"brand": {"any_of": ["Alp", "Dig", "Nobody"]}}, {"tent", "bag", "rope", "never-bought", "spade", "untitled"}),
    ({"brand": {"none_of": ["Alp"]}}, set(IDS) - {"tent", "bag", "rope", "never-bought"}),
    ({"brand": {"equals": "Alp", "none_of": ["Alp"]}}, set()),
    ({"brand": {"equals": "Alp", "any_of": ["Dig"]}}, set()),
    ({"brand": {"equals": "Alp"}, "title": {"any_of": ["Tent", "Kite"]}}, {"tent"}),
    ({"colour": {"equals": "red"}}, set()),
    ({"colour": {"none_of": ["red"]}}, set(IDS)),
    ({"brand": {"at_least": 1}}, set()),
    ({}, set(IDS)),
]


@pytest.mark.parametrize(("condition", "matching"), FILTERS)
@pytest.mark.parametrize("history", [["spade", "map"], []])
def test_filters_give_all_that_match(client: TestClient, condition: dict[str, Any], matching: set[str], history: list[str]) -> None:
    found = ask(client, items=history, k=12, exclude_seen=False, filter=condition)
    assert set(ids(found)) == matching
    assert set(ids(ask(client, items=history, k=12, filter=condition))) == matching - set(history)
    some = ask(client, items=history, k=12, exclude_seen=False, filter=condition, only=["tent", "kite", "boat"], without=["kite", "ship"])
    assert set(ids(some)) == matching & {"tent"}
    assert set(some["unknown_items"]) == {"boat", "ship"}


def test_k_asked_is_k_given_where_one_item_in_a_thousand_matches(client: TestClient) -> None:
    many = [{"item_id": f"n{place}", "attributes": {"title": f"Thing {place}", "price": place % 1000}} for place in range(2000)]
    for start in range(0, 2000, 250):
        assert client.post("/v1/items", json={"items": many[start : start + 250]}).status_code == 200
    for history in (["tent", "map"], []):
        found = ask(client, items=history, k=2, filter={"price": {"at_least": 6.5, "at_most": 7}})
        assert sorted(ids(found)) == ["n1007", "n7"]
    assert {item["reason"] for item in ask(client, items=["tent"], k=3, only=["n1", "n2", "n3"])["items"]} == {"new_item"}


def test_pages_never_repeat_an_item_whatever_happens_between_them(client: TestClient) -> None:
    take(client, "anna", "tent")
    first = ask(client, user_id="anna", k=5)
    take(client, "anna", "map")  # which changes the order of all the rest
    second = ask(client, user_id="anna", k=5, page=first["next_page"])
    third = ask(client, user_id="anna", k=5, page=second["next_page"])
    assert third["next_page"] is None
    shown = [*ids(first), *ids(second), *ids(third)]
    assert len(shown) == len(set(shown))
    assert set(shown) == set(IDS) - {"tent"} - ({"map"} - set(ids(first)))


def test_unknown_items_are_those_that_the_caller_sent_alone(client: TestClient) -> None:
    take(client, "anna", "tent", "map", "kite")
    take(client, "anna", "rope", "spade", kind="dislike")
    first = ask(client, user_id="anna", k=2)
    for item_id in ("kite", "spade", ids(first)[0]):  # of the history, of the dislikes, of the first page
        assert client.delete(f"/v1/items/{item_id}").status_code == 200
    assert ask(client, user_id="anna", page=first["next_page"])["unknown_items"] == []
    sent = {"only": ["boat", "map", "kite", "torch", "boat"], "without": ["ship", "spade", "map"]}
    assert ask(client, user_id="anna", page=first["next_page"], **sent)["unknown_items"] == ["boat", "kite", "ship", "spade"]
    assert ask(client, items=["oar", "tent", "oar"], **sent)["unknown_items"] == ["oar", "boat", "kite", "ship", "spade"]
    assert ask(client, texts=["oar"], without=["oar"])["unknown_items"] == ["oar"]


def test_pages_of_what_is_popular(client: TestClient) -> None:
    first = ask(client, items=[], k=7)
    second = ask(client, items=[], k=7, page=first["next_page"])
    assert ids(first) + ids(second) == IDS
    assert second["next_page"] is None


HALF_A_PAIR, TOO_DEEP = (base64.b64encode(content).decode() for content in (b'["\\ud800"]', b"[" * 100_000))


@pytest.mark.parametrize("page", ["x", "e30=", "WzFd", "ÿ", "W10", "", HALF_A_PAIR, TOO_DEEP])
def test_a_page_that_no_answer_gave_is_refused(client: TestClient, page: str) -> None:
    for history in (["tent"], []):
        answer = client.post("/v1/recommendations", json={"items": history, "page": page})
        assert (answer.status_code, answer.json()["error"]) == (422, "invalid")


def test_a_batch_is_answered_in_order(client: TestClient) -> None:
    bodies: list[dict[str, Any]] = [
        {"items": ["tent"], "k": 3},
        {"texts": ["Boat"], "k": 2},
        {"user_id": "nobody", "k": 1},
        {"items": ["tent"], "k": 2, "filter": {"brand": {"equals": "Dig"}}},
    ]
    answer = client.post("/v1/recommendations/batch", json={"requests": bodies})
    assert answer.status_code == 200
    assert [ids(one) for one in answer.json()["answers"]] == [ids(ask(client, **body)) for body in bodies]
    assert len({one["recommendation_id"] for one in answer.json()["answers"]}) == 4


def test_a_receipt_says_what_became_of_each_event(client: TestClient) -> None:
    soon, late = datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC) + timedelta(days=3)
    events = [
        {"user_id": "anna", "item_id": "tent", "event_id": "e1", "time": "2024-01-01T00:00:00.123456Z"},
        {"user_id": "anna", "item_id": "tent", "event_id": "e1"},
        {"user_id": "anna", "item_id": "boat", "time": soon.isoformat()},
        {"user_id": "anna", "item_id": "map", "time": late.isoformat()},
        {"user_id": "anna", "item_id": "map", "time": "1960-01-01T00:00:00+02:00"},
    ]
    receipt = send(client, *events)
    assert (receipt["accepted"], receipt["duplicates"], receipt["unknown_items"]) == (2, ["e1"], ["boat"])
    assert [refused["place"] for refused in receipt["refused"]] == [3, 4]
    assert all("allowed is from 1970 to a day from now" in refused["reason"] for refused in receipt["refused"])
    assert send(client, events[0])["duplicates"] == ["e1"]
    history = client.get("/v1/users/anna/history").json()["events"]
    assert [(event["item_id"], event["title"]) for event in history] == [("tent", "Tent"), ("boat", None)]
    assert history[0]["time"] == "2024-01-01T00:00:00.123456Z"
    assert [event["item_id"] for event in client.get("/v1/users/anna/history?limit=1").json()["events"]] == ["boat"]


def test_erasing_a_user(client: TestClient, tmp_path: Path) -> None:
    take(client, "user-to-erase", "tent", "map")
    assert client.delete("/v1/users/user-to-erase").json() == {"user_id": "user-to-erase", "events": 2}
    assert client.get("/v1/users/user-to-erase/history").json()["events"] == []
    assert {item["reason"] for item in ask(client, user_id="user-to-erase")["items"]} == {"popular"}
    assert all(b"user-to-erase" not in path.read_bytes() for path in tmp_path.glob("store.db*"))


def test_a_new_item_is_recommended_in_the_next_call(client: TestClient) -> None:
    put = client.put("/v1/items/boat", json={"attributes": {"title": "Boat", "price": 12.5}})
    assert put.status_code == 200
    assert put.json() == {
        "item_id": "boat",
        "title": "Boat",
        "attributes": {"title": "Boat", "price": "12.5"},
        "hidden": False,
        "available_until": None,
    }
    assert client.get("/v1/items/boat").json() == put.json()
    (found,) = ask(client, items=["tent"], only=["boat"])["items"]
    assert (found["title"], found["reason"], found["attributes"]["price"]) == ("Boat", "new_item", "12.5")
    assert "tent" in ids(ask(client, items=["boat"], k=12))


def test_a_changed_text_changes_what_the_next_call_gives(client: TestClient, model_folder: Path) -> None:
    history = ["tent", "never-bought"]
    before = ask(client, items=history, k=12)
    changed = client.patch("/v1/items/never-bought", json={"attributes": {"title": "Canoe and paddle", "brand": None}})
    assert changed.json()["attributes"] == {"title": "Canoe and paddle"}
    reference = Laser.load(model_folder)
    reference.update_items([{"item_id": "never-bought", "title": "Canoe and paddle"}])
    (expected,) = reference.recommend([history], k=12)
    after_change = ask(client, items=history, k=12)
    assert ids(after_change) == [item.item_id for item in expected]
    assert [item["score"] for item in after_change["items"]] == pytest.approx([item.score for item in expected], abs=1e-4)
    assert [item["score"] for item in after_change["items"]] != pytest.approx([item["score"] for item in before["items"]], abs=1e-3)


def test_a_deleted_item_is_gone_and_may_come_back(client: TestClient) -> None:
    assert client.delete("/v1/items/kite").json()["title"] == "Kite"
    assert client.get("/v1/items/kite").status_code == client.delete("/v1/items/kite").status_code == 404
    found = ask(client, items=["tent", "kite"], k=20)
    assert "kite" not in ids(found)
    assert found["unknown_items"] == ["kite"]
    assert client.put("/v1/items/kite", json={"attributes": {"title": "Red kite"}}).status_code == 200
    assert {item["item_id"]: item["reason"] for item in ask(client, items=["tent"], k=20)["items"]}["kite"] == "new_item"
    twice = [{"item_id": "kite", "attributes": {"title": title}} for title in ("Kite 2", "Kite 3")]
    assert client.post("/v1/items", json={"items": twice}).status_code == 422
    assert client.get("/v1/items/kite").json()["title"] == "Red kite"


def test_items_are_kept_as_the_model_reads_them(client: TestClient) -> None:
    put = client.put("/v1/items/%20boat%20", json={"attributes": {"title": " Boat  &amp; paddle ", "Brand": "Alp", "colour": "NA"}})
    assert put.status_code == 200, put.text
    assert (put.json()["item_id"], put.json()["attributes"]) == ("boat", {"title": "Boat & paddle", "brand": "Alp"})
    assert "boat" in ids(ask(client, items=["tent"], k=20, filter={"brand": {"equals": "Alp"}}))
    patched = client.patch("/v1/items/boat", json={"attributes": {"brand": " Dig ", "size": 3.0}})
    assert patched.json()["attributes"] == {"title": "Boat & paddle", "brand": "Dig", "size": "3"}
    refused = client.put("/v1/items/NA", json={"attributes": {"title": "Boat"}})
    assert (refused.status_code, refused.json()["error"]) == (422, "invalid")
    assert client.post("/v1/recommendations", json={"texts": [" "]}).status_code == 422


def test_similar_items_are_the_models_without_what_is_hidden(client: TestClient, laser: Laser) -> None:
    expected = laser.similar_items("tent", 11)
    found = client.get("/v1/items/tent/similar", params={"k": 11}).json()["items"]
    assert [(item["item_id"], item["title"]) for item in found] == [(item.item_id, item.title) for item in expected]
    assert [item["score"] for item in found] == pytest.approx([item.score for item in expected], abs=1e-5)
    client.patch(f"/v1/items/{expected[0].item_id}", json={"hidden": True})
    assert ids(client.get("/v1/items/tent/similar", params={"k": 3}).json()) == [item.item_id for item in expected[1:4]]
    assert client.get("/v1/items/boat/similar").status_code == 404


def test_hidden_items_and_those_past_their_time_are_in_no_answer(client: TestClient) -> None:
    client.put("/v1/items/boat", json={"attributes": {"title": "Boat"}})
    ask(client, items=["tent"])  # so that its history is kept
    assert client.patch("/v1/items/boat", json={"hidden": True}).json()["hidden"]
    assert client.patch("/v1/items/map", json={"available_until": "2020-01-01T00:00:00Z"}).status_code == 200
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    assert client.patch("/v1/items/kite", json={"available_until": soon.isoformat()}).status_code == 200

    def everywhere() -> list[set[str]]:
        bodies: list[dict[str, Any]] = [
            {"items": ["tent"]},
            {"texts": ["Boat"]},
            {"items": []},
            {"items": ["tent"], "only": ["boat", "map", "kite"]},
        ]
        answers = [set(ids(ask(client, k=20, **body))) for body in bodies]
        for query in ("Boat", "Map", "Kite"):
            answers += [set(ids(client.get("/v1/items", params={"query": query, "by": by, "k": 20}).json())) for by in ("title", "meaning")]
        return answers

    assert not set().union(*everywhere()) & {"boat", "map"}
    assert "kite" in set().union(*everywhere())
    time.sleep(max(0, (soon - datetime.now(UTC)).total_seconds()) + 0.01)
    assert not set().union(*everywhere()) & {"boat", "map", "kite"}
    client.patch("/v1/items/boat", json={"hidden": False})
    client.patch("/v1/items/map", json={"available_until": None})
    assert {"boat", "map"} <= set(ids(ask(client, items=["tent"], k=20)))


def test_the_map_is_the_models_without_what_is_hidden(client: TestClient, laser: Laser) -> None:
    def column(name: str) -> list[Any]:
        found: list[Any] = client.get("/v1/map").json()[name]
        return found

    assert client.get("/v1/map").headers["Content-Type"] == "application/json"
    expected = laser.item_map(without=["kite"])
    assert client.patch("/v1/items/kite", json={"hidden": True}).status_code == 200
    answer = client.get("/v1/map", params={"model": "default"}).json()
    assert (answer["catalogue"], answer["item_ids"], answer["titles"]) == (11, list(expected.item_ids), list(expected.titles))
    np.testing.assert_allclose(np.array([answer["x"], answer["y"]]).T, expected.places, atol=5e-5)
    assert answer["explained"] == pytest.approx(expected.explained)
    codes = [0, 2, 0, 2, 0, 2, 2, 2, 1, 1, 0]  # of IDS without the kite
    assert answer["attributes"] == [{"name": "brand", "kinds": ["Alp", "Dig", "other"], "codes": codes}]
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    client.patch("/v1/items/map", json={"available_until": soon.isoformat()})
    assert "map" in column("item_ids")
    time.sleep(max(0, (soon - datetime.now(UTC)).total_seconds()) + 0.01)
    assert "map" not in column("item_ids")
    assert client.get("/v1/map", params={"model": "none"}).status_code == 422


HOSTILE = (
    "a/b",
    "/",
    "a/similar",
    "../users/x/history",
    "100% wool",
    "%2F",
    "a%2Fb",
    "?k=1#x",
    "x;y=1",
    "ä日\U0001f9e6",
    "<b>'\"\\",
    " x ",
)
"""Ids that mean something in a path, in HTML or in SQL."""


@pytest.mark.parametrize("name", HOSTILE)
def test_any_id_is_one_segment_of_a_path(client: TestClient, name: str) -> None:
    path, name = quote(name, safe=""), name.strip()  # blanks around an id do not count
    assert client.put(f"/v1/items/{path}", json={"attributes": {"title": "Thing"}}).json()["item_id"] == name
    assert client.get(f"/v1/items/{path}").json()["title"] == "Thing"
    assert client.get(f"/v1/items/{path}/similar?k=2").json()["items"]
    assert client.patch(f"/v1/items/{path}", json={"hidden": True}).json()["hidden"]
    take(client, name, "tent", name)
    history = client.get(f"/v1/users/{path}/history").json()
    assert (history["user_id"], [event["item_id"] for event in history["events"]]) == (name, ["tent", name])
    assert client.delete(f"/v1/users/{path}").json() == {"user_id": name, "events": 2}
    assert client.delete(f"/v1/items/{path}").json()["item_id"] == name
    assert client.get(f"/v1/items/{path}").status_code == 404


@pytest.mark.parametrize("path", ["/v1/items/%00", "/v1/items/%ff", "/v1/items/a%0Ab", f"/v1/items/{'%41' * 257}"])
def test_a_path_that_holds_no_id_is_refused(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 422


def test_searching_by_title_and_by_meaning(client: TestClient, laser: Laser) -> None:
    def search(**parameters: str | int) -> list[str]:
        return ids(client.get("/v1/items", params=parameters).json())

    assert search(query="tent") == ["tent"]
    assert search(query="s") == ["spade", "never-bought", "bag", "compass", "stove", "map"]
    assert search(query="ALPS map") == ["map"]
    assert search(query="nothing") == []
    assert search(query="canoe", by="meaning", k=3) == [item.item_id for item in laser.recommend_texts([["canoe"]], k=3)[0]]


def test_what_does_not_exist_is_said_in_words(client: TestClient) -> None:
    for answer in (client.get("/v1/items/boat"), client.patch("/v1/items/boat", json={}), client.delete("/v1/items/boat")):
        assert (answer.status_code, answer.json()) == (404, {"error": "not_found", "message": "There is no item of this id."})
    assert client.get("/v1/nothing").json()["error"] == "not_found"
    assert client.get("/v1/events").json()["error"] == "method_not_allowed"


WRONG: list[tuple[str, str, Any, str]] = [
    ("post", "/v1/recommendations", {}, "exactly one of user_id, items and texts"),
    ("post", "/v1/recommendations", {"items": ["tent"], "texts": ["a"]}, "exactly one of user_id, items and texts"),
    (
        "post",
        "/v1/recommendations",
        {"items": ["tent"], "explained": True},
        "body.explained: unknown field; known are user_id, items",
    ),
    ("post", "/v1/recommendations", {"items": ["tent"], "k": 0}, "body.k: Input should be greater than or equal to 1"),
    ("post", "/v1/recommendations", {"items": ["tent"], "k": 201}, "Received k = 201; at most 200 are allowed."),
    ("post", "/v1/recommendations", {"items": ["tent"] * 1001}, "the length of items = 1001; at most 1000"),
    ("post", "/v1/recommendations", {"texts": ["a" * 2001]}, "characters of a text in texts = 2001; at most 2000"),
    ("post", "/v1/recommendations", {"items": ["a\u0000b"]}, "String should match pattern"),
    ("post", "/v1/recommendations", {"items": ["a" * 257]}, "at most 256 characters"),
    ("post", "/v1/recommendations", {"items": ["tent"], "filter": {"a": {"is": 1}}}, "body.filter.a.is: unknown field; known are equals"),
    ("post", "/v1/recommendations/batch", {"requests": [{"items": ["tent"]}] * 257}, "the number of requests = 257; at most 256"),
    ("post", "/v1/events", {"events": []}, "at least 1 item"),
    ("post", "/v1/events", {"events": [{"user_id": "a", "item_id": "b", "time": "2024-01-01T00:00:00"}]}, "should have timezone info"),
    (
        "post",
        "/v1/events",
        {"events": [{"user_id": "a", "item_id": "b", "when": 1}]},
        "body.events.0.when: unknown field; known are",
    ),
    ("put", "/v1/items/boat", {"attributes": {"brand": "Alp"}}, "must hold a title"),
    ("put", "/v1/items/boat", {"attributes": {"title": "Boat", "price": True}}, "body.attributes.price: Input should be a valid string"),
    ("put", "/v1/items/boat", {"attributes": {"title": "a" * 2001}}, "characters of the attribute 'title' = 2001"),
    ("put", "/v1/items/boat", {"attributes": {"title": "Boat"} | {f"a{place}": "b" for place in range(64)}}, "attributes = 65; at most 64"),
    ("patch", "/v1/items/tent", {"attributes": {"title": None}}, "title cannot be taken away"),
    ("patch", "/v1/items/untitled", {"attributes": {"brand": None}}, "has no text; give at least its title"),
    ("put", "/v1/items/boat", {"attributes": {"title": "Boat", "item_id": "ship"}}, "cannot be named item_id"),
    ("get", "/v1/users/anna/history?limit=0", None, "query.limit"),
    ("get", "/v1/items?query=%20", None, "query.query"),
]


@pytest.mark.parametrize(("method", "path", "body", "message"), WRONG)
def test_what_is_wrong_is_said_and_nothing_is_kept(client: TestClient, method: str, path: str, body: object, message: str) -> None:
    answer = client.request(method, path, json=body)
    assert (answer.status_code, answer.json()["error"]) == (422, "invalid")
    assert message in answer.json()["message"]
    assert client.get("/v1/items/boat").status_code == 404
    assert client.get("/v1/users/a/history").json()["events"] == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"items": [' + b"9" * 5000 + b"]}", b"[" * 100_000, b"\xff", b'{"items": ["\\ud800"]}', b"NaN"]
)
def test_bodies_that_are_no_json_of_ours_are_refused(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/recommendations", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}
    assert answer.json()["error"] == "invalid"


def test_replicas_of_one_database_see_each_other(model_folder: Path, address: str) -> None:
    with running(Laser.load(model_folder), address) as one, running(Laser.load(model_folder), address) as other:
        one.put("/v1/items/boat", json={"attributes": {"title": "Boat"}})
        take(one, "anna", "tent")
        assert ask(other, user_id="anna")["items"][0]["reason"] != "popular"
        until = time.monotonic() + 1
        while "boat" not in ids(ask(other, user_id="anna", k=20)):
            assert time.monotonic() < until, "a second passed"
    with running(Laser.load(model_folder), address) as third:
        assert "boat" in ids(ask(third, user_id="anna", k=20))
