"""Who may ask what: keys and their scopes, this machine alone without them, and what browsers are told."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from shop_service import running

from laserrec import Laser
from laserrec.errors import StoreError
from laserrec.serving.access import make_key, scope_of
from laserrec.serving.server import JsonLines
from laserrec.serving.sql_store import SqlStore
from laserrec.serving.store import Scope

ROUTES: list[tuple[str, str, object, Scope]] = [
    ("post", "/v1/recommendations", {"items": ["tent"]}, "read"),
    ("post", "/v1/recommendations/batch", {"requests": [{"items": ["tent"]}]}, "read"),
    ("get", "/v1/users/anna/history", None, "read"),
    ("get", "/v1/items?query=tent", None, "read"),
    ("get", "/v1/items/tent", None, "read"),
    ("get", "/v1/items/tent/similar", None, "read"),
    ("get", "/v1/map", None, "read"),
    ("get", "/v1/models", None, "read"),
    ("get", "/metrics", None, "read"),
    ("post", "/v1/events", {"events": [{"user_id": "a", "item_id": "b"}]}, "write"),
    ("delete", "/v1/users/anna", None, "write"),
    ("post", "/v1/items", {"items": [{"item_id": "boat", "attributes": {"title": "Boat"}}]}, "write"),
    ("get", "/v1/users?query=a", None, "read"),
    ("put", "/v1/items/kayak", {"attributes": {"title": "Kayak"}}, "write"),
    ("patch", "/v1/items/tent", {"hidden": False}, "write"),
    ("post", "/v1/models", {"source": "absent"}, "admin"),
]


@pytest.fixture
def keys(tmp_path: Path) -> dict[Scope, str]:
    """A key of each scope, in the store that `locked` uses."""
    store, texts = SqlStore.open(f"sqlite:///{tmp_path / 'locked.db'}"), {}
    scopes: tuple[Scope, ...] = ("read", "write", "admin")
    for scope in scopes:
        key, texts[scope] = make_key(scope)
        store.add_key(key)
    store.close()
    return texts


@pytest.fixture
def locked(laser: Laser, keys: dict[Scope, str], tmp_path: Path) -> Iterator[TestClient]:
    """A client of a service that has keys."""
    with running(laser, f"sqlite:///{tmp_path / 'locked.db'}") as client:
        yield client


def test_every_route_asks_for_its_scope(locked: TestClient, keys: dict[Scope, str]) -> None:
    for method, path, body, needed in ROUTES:
        without = locked.request(method, path, json=body)
        assert (without.status_code, without.json()["error"]) == (401, "unauthorised"), path
        assert without.headers["WWW-Authenticate"] == "Bearer"
        for scope, key in keys.items():
            answer = locked.request(method, path, json=body, headers={"Authorization": f"Bearer {key}"})
            accepted = 422 if path == "/v1/models" and method == "post" else 200
            allowed = scope in {needed, "admin"} or (scope, needed) == ("write", "read")
            assert answer.status_code == (accepted if allowed else 403), (path, scope)
            if not allowed:
                assert answer.json() == {"error": "forbidden", "message": f"The key's scope is {scope!r}; this needs {needed!r}."}
    assert locked.get("/livez").status_code == locked.get("/readyz").status_code == 200


def test_every_route_of_the_document_is_among_them(locked: TestClient) -> None:
    paths = locked.get("/openapi.json").json()["paths"]
    named = {(method, path) for path, methods in paths.items() for method in methods}
    tested = {(method, path.partition("?")[0]) for method, path, _, _ in ROUTES} | {("delete", "/v1/items/tent")}
    patterns = {(method, re.compile(re.sub(r"\{\w+\}", "[^/]+", path))) for method, path in named}
    left = {(method, pattern.pattern) for method, pattern in patterns if not any(m == method and pattern.fullmatch(p) for m, p in tested)}
    assert left == {("get", "/livez"), ("get", "/readyz")}


@pytest.mark.parametrize(
    "change", [lambda key: key[:-1], lambda key: key + "x", lambda key: key.swapcase(), lambda key: "lr_", lambda key: "ü"]
)
def test_a_key_that_is_nearly_right_is_wrong(keys: dict[Scope, str], tmp_path: Path, change: object) -> None:
    store = SqlStore.open(f"sqlite:///{tmp_path / 'locked.db'}")
    kept = {key.key_id: key for key in store.access_keys()}
    store.close()
    key = keys["admin"]
    assert scope_of(key, kept) == "admin"
    for wrong in (key[:-1], key + "x", key.swapcase(), key.replace("lr_", "", 1), "lr_", "", "ü", "lr_" + keys["read"][3:12] + key[12:]):
        assert scope_of(wrong, kept) is None, wrong
    assert not any(keys["admin"].rpartition("_")[2] in key.hash for key in kept.values())


def test_a_key_that_is_made_or_removed_counts_within_a_second(client: TestClient, tmp_path: Path) -> None:
    store = SqlStore.open(f"sqlite:///{tmp_path / 'store.db'}")
    assert client.get("/v1/items/tent").status_code == 200
    key, text = make_key("read")
    store.add_key(key)
    time.sleep(0.3)
    assert client.get("/v1/items/tent").status_code == 401
    assert client.get("/v1/items/tent", headers={"Authorization": f"Bearer {text}"}).status_code == 200
    store.remove_key(key.key_id)
    time.sleep(0.3)
    for headers in ({"Authorization": f"Bearer {text}"}, {}):  # without any key left it does not open up again
        assert client.get("/v1/items/tent", headers=headers).status_code == 401
    store.close()


def test_without_keys_only_this_machine_is_answered(client: TestClient) -> None:
    for host in ("localhost", "localhost:8000", "127.0.0.1:1", "[::1]:80", "127.8.8.8"):
        assert client.get("/livez", headers={"Host": host}).status_code == 200, host
    for host in ("example.org", "localhost.example.org", "10.0.0.1", "127.0.0.1.example.org", "", "[", "[::1", "a@localhost:b"):
        answer = client.get("/v1/items/tent", headers={"Host": host})
        assert (answer.status_code, answer.json()["error"]) == (403, "forbidden"), host


def test_pages_of_other_origins_are_refused(client: TestClient) -> None:
    assert client.get("/livez", headers={"Origin": "http://localhost"}).status_code == 200
    for origin in ("https://example.org", "http://localhost:9999", "null", "http://[", "localhost"):
        answer = client.post("/v1/events", json={"events": [{"user_id": "a", "item_id": "b"}]}, headers={"Origin": origin})
        assert answer.status_code == 403
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert client.get("/v1/users/a/history").json()["events"] == []


def test_bodies_that_are_too_large_are_refused_with_and_without_a_length(laser: Laser, tmp_path: Path) -> None:
    with running(laser, f"sqlite:///{tmp_path / 'a.db'}", body_bytes=1000) as client:
        headers = {"Content-Type": "application/json"}
        body = json.dumps({"items": ["tent"], "without": ["x" * 100] * 20}).encode()
        for content in (body, iter([body[:600], body[600:]])):
            answer = client.post("/v1/recommendations", content=content, headers=headers)
            assert (answer.status_code, answer.json()["error"]) == (413, "too_large")
            assert "larger than 1000 bytes" in answer.json()["message"]
        assert client.post("/v1/recommendations", json={"items": ["tent"]}).status_code == 200


def test_every_answer_carries_headers_that_keep_browsers_safe(client: TestClient) -> None:
    for answer in (client.get("/livez"), client.get("/nothing"), client.get("/livez", headers={"Host": "example.org"})):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")


def test_times_of_the_phases_are_in_the_answer_and_in_the_metrics(client: TestClient) -> None:
    client.post("/v1/events", json={"events": [{"user_id": "anna", "item_id": "tent"}]})
    for _ in range(2):
        answer = client.post("/v1/recommendations", json={"user_id": "anna", "k": 3})
    phases = dict(part.split(";dur=") for part in answer.headers["Server-Timing"].split(", "))
    assert set(phases) == {"store", "queue", "engine", "total"}
    assert float(phases["total"]) >= max(float(phases[name]) for name in ("store", "queue", "engine"))
    families = {family.name: family for family in text_string_to_metric_families(client.get("/metrics").text)}
    values = {(sample.name, *sorted(sample.labels.items())): sample.value for family in families.values() for sample in family.samples}
    # Eight histories were answered to be warm, and one of them was anna's.
    assert values["laserrec_embedding_lookups_total", ("result", "hit")] >= 1
    assert (
        values["laserrec_recommended_items_total", ("reason", "personal")]
        + values.get(("laserrec_recommended_items_total", ("reason", "new_item")), 0)
        == 6
    )
    assert values["laserrec_events_total", ("result", "accepted")] == 1
    assert values["laserrec_items",] == 12
    assert values["laserrec_bound", ("of", "queue_requests")] == 512
    assert values["laserrec_queue_requests",] == 0
    request = ("method", "POST"), ("route", "/v1/recommendations"), ("status", "200")
    assert values["laserrec_request_seconds_count", *request] == 2
    assert values["laserrec_phase_seconds_count", ("phase", "engine")] == 2
    assert sum(value for (name, *_), value in values.items() if name == "laserrec_expert_histories_total") == 2


def test_the_log_says_nothing_of_users_texts_and_keys(locked: TestClient, keys: dict[Scope, str], caplog: pytest.LogCaptureFixture) -> None:
    headers = {"Authorization": f"Bearer {keys['admin']}"}
    with caplog.at_level(logging.INFO, "laserrec"):
        locked.post("/v1/recommendations", json={"texts": ["secret text"]}, headers=headers)
        locked.get("/v1/users/secret-user/history", headers=headers)
        locked.put("/v1/items/i", json={"attributes": {"title": "secret title"}}, headers=headers)
        locked.post("/v1/recommendations", json={"texts": ["secret text"], "k": 1000}, headers=headers)
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records if record.name == "laserrec.requests"]
    assert [(line["route"], line["status"]) for line in lines] == [
        ("/v1/recommendations", 200),
        ("/v1/users/{user_id}/history", 200),
        ("/v1/items/{item_id}", 200),
        ("/v1/recommendations", 422),
    ]
    assert {"time", "level", "event", "method", "ms", "engine_ms", "queue_ms"} <= lines[0].keys()
    assert "secret" not in json.dumps(lines)
    assert keys["admin"] not in json.dumps(lines)


def test_an_error_of_ours_leaves_no_trace_in_the_answer(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    service = client.app.state.service  # type: ignore[attr-defined]

    def broken(*_: object) -> None:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(service.core.ranking._laser, "recommend", broken)
    answer = client.post("/v1/recommendations", json={"items": ["tent"]})
    assert (answer.status_code, answer.json()) == (500, {"error": "internal", "message": "The service failed; its log says more."})
    assert client.post("/v1/recommendations", json={"items": []}).status_code == 200


def test_a_store_that_fails_is_a_503_and_not_ready(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    service = client.app.state.service  # type: ignore[attr-defined]

    def broken(*_: object) -> None:
        raise StoreError("The store postgresql://a:***@b does not answer")

    monkeypatch.setattr(service.core.store, "history", broken)
    monkeypatch.setattr(service.core.store, "access_keys", broken)
    answer = client.post("/v1/recommendations", json={"user_id": "anna"})
    assert (answer.status_code, answer.json()["error"]) == (503, "store")
    assert "postgresql" not in answer.text
    assert client.get("/readyz").json() == {"ready": False, "missing": ["store"]}
    assert client.get("/livez").status_code == 200


def test_too_much_at_once_is_refused_with_when_to_come_back_and_late_answers_are_given_up(laser: Laser, tmp_path: Path) -> None:
    limits = {"queue_requests": 4, "batch": 4, "deadline": 0.6}
    with running(laser, f"sqlite:///{tmp_path / 'a.db'}", **limits) as client:
        service = client.app.state.service  # type: ignore[attr-defined]
        released = threading.Event()
        service.core.engine.run(lambda: released.wait(20))
        begun = time.monotonic()
        answers: list[int] = []
        batch = {"requests": [{"items": ["tent"]}] * 4}
        thread = threading.Thread(target=lambda: answers.append(client.post("/v1/recommendations/batch", json=batch).status_code))
        thread.start()
        while service.core.engine.waiting < 4:
            time.sleep(0.005)
        for path, body in (("/v1/recommendations", {"items": ["map"]}), ("/v1/recommendations/batch", batch)):
            refused = client.post(path, json=body)
            assert (refused.status_code, refused.json()["error"], refused.headers["Retry-After"]) == (429, "too_many_requests", "1")
        assert client.get("/livez").elapsed.total_seconds() < 0.2
        thread.join(20)
        assert answers == [504]
        assert 0.6 <= time.monotonic() - begun < 3
        released.set()
        while service.core.engine.waiting:
            time.sleep(0.005)
        assert client.post("/v1/recommendations", json={"items": ["map"]}).status_code == 200
