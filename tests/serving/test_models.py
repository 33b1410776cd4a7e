"""Models side by side: who is answered by which, and a switch that no request notices."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient
from served import Served
from shop_service import running
from small_shop import IDS, after

from laserrec import Laser
from laserrec.errors import ConfigError
from laserrec.serving.models import Model, Models, interval
from laserrec.serving.ranking import Question, Ranking
from laserrec.serving.store import Item


@pytest.fixture(scope="session")
def other_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the same shop with other weights, and so another order."""
    laser = Laser.load(model_folder)
    with torch.no_grad():
        for weight in laser._system.model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    laser.save(tmp_path_factory.mktemp("other") / "model")
    return tmp_path_factory.getbasetemp() / "other0" / "model"


def named(client: TestClient, user_id: str) -> tuple[str, list[str]]:
    answer = client.post("/v1/recommendations", json={"user_id": user_id, "k": 6}).json()
    return f"{answer['model']['name']}@{answer['model']['version']}", [item["item_id"] for item in answer["items"]]


def test_users_are_kept_to_one_model_in_proportion_to_the_shares() -> None:
    models = Models(tuple(Model(name, "1", share, None, "") for name, share in (("a", 3.0), ("none", 0.0), ("b", 1.0))))  # type: ignore[arg-type]
    chosen = [models.of(f"user-{place}").name for place in range(4000)]
    assert chosen == [models.of(f"user-{place}").name for place in range(4000)]
    assert set(chosen) == {"a", "b"}
    assert abs(chosen.count("b") / 4000 - 0.25) < 0.03  # four standard deviations
    with pytest.raises(ConfigError, match="nobody would be answered"):
        Models(tuple(Model(name, "1", 0.0, None, "") for name in "ab"))  # type: ignore[arg-type]


def test_a_change_that_fails_half_way_is_taken_up_where_it_ended(laser: Laser, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranking, history = Ranking(laser, embeddings=10), ("tent", "map")
    changes = [
        Item("kite", {}, deleted=True, change=1),
        Item("boat", {"title": "Boat"}, change=2),
        Item("rope", {"title": "Rope ladder"}, change=3),
        Item("spade", {"title": "Spade", "brand": "Dig"}, hidden=True, change=4),
    ]

    def fail(items: object) -> None:
        raise OSError(f"no space left for {items}")

    for method, gone in (("add_items", {"kite", "boat"}), ("update_items", {"kite"})):
        with monkeypatch.context() as patch:
            patch.setattr(laser, method, fail)
            with pytest.raises(OSError, match="no space left"):
                ranking.change(changes)
        assert ranking.followed == 0  # so that the next look at the store brings the same changes again
        for asked in (history, ()):
            (answer,) = ranking.answer([Question(asked, 20, exclude_seen=False)])
            assert {pick.item.item_id for pick in answer.picks} == {*IDS, "boat"} - gone
    ranking.change(changes)
    assert ranking.followed == 4
    reference = Laser.load(model_folder)
    reference.remove_items(["kite"])
    reference.add_items([{"item_id": "boat", "title": "Boat"}])
    reference.update_items([{"item_id": "rope", "title": "Rope ladder"}])
    (expected,) = reference.recommend([history], k=20, without=["spade"])
    (answer,) = ranking.answer([Question(history, 20)])
    assert [pick.item.item_id for pick in answer.picks] == [item.item_id for item in expected]
    assert [pick.score for pick in answer.picks] == pytest.approx([item.score for item in expected], abs=1e-4)


def test_a_model_that_cannot_follow_keeps_no_other_from_it_and_is_tried_again(
    laser: Laser, other_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(items: object) -> None:
        raise OSError(f"no space left for {items}")

    with running(laser, f"sqlite:///{tmp_path / 'a.db'}") as client:
        assert client.post("/v1/models", json={"name": "new", "source": str(other_folder), "share": 1}).status_code == 200
        first, second = (model.ranking for model in client.app.state.service.core.models.all)  # type: ignore[attr-defined]
        with monkeypatch.context() as patch:
            patch.setattr(laser, "add_items", fail)
            assert client.put("/v1/items/boat", json={"attributes": {"title": "Boat"}}).status_code == 500
            assert ("boat" in first.shelf, "boat" in second.shelf) == (False, True)
        until = time.monotonic() + 10
        while "boat" not in first.shelf:  # the service looks every twentieth of a second
            assert time.monotonic() < until
            time.sleep(0.01)
        for name in ("default", "new"):
            answer = client.post("/v1/recommendations", json={"items": ["tent"], "k": 20, "model": name}).json()
            assert "boat" in {item["item_id"] for item in answer["items"]}


def test_a_run_that_cannot_be_read_keeps_no_service_from_getting_ready(
    laser: Laser, model_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(model_folder, tmp_path / "run" / "model")
    about = {"format": 4, "command": [], "config": {"stage9": {}}, "finished": None, "seconds": 0, "threads": 1}
    data = dict.fromkeys(("name", "fingerprint", "catalogue", "path", "absolute"), "")
    (tmp_path / "run" / "run.json").write_text(json.dumps(about | {"data": data}))
    source = str(tmp_path / "run" / "model")
    with caplog.at_level("INFO", "laserrec.serving"), running(laser, f"sqlite:///{tmp_path / 'a.db'}", source) as client:
        assert any("no item counts as popular" in line and "stage9" in line for line in caplog.messages)
        switched = client.post("/v1/models", json={"source": source})
        assert switched.status_code == 200
        assert "stage9" in switched.json()["not_compared"]


def test_the_interval_of_a_rate() -> None:
    assert interval(0, 0) == (0, 1)
    # Wilson's for 1 of 10, as textbooks have it: .0179 to .4042.
    assert interval(1, 10) == pytest.approx((0.0179, 0.4042), abs=1e-4)
    assert interval(10, 10) == pytest.approx((0.7225, 1), abs=1e-4)


def test_two_models_answer_their_own_users_and_their_hits_are_counted(model_folder: Path, other_folder: Path, tmp_path: Path) -> None:
    lasers = {"default": Laser.load(model_folder), "new": Laser.load(other_folder)}
    with running(Laser.load(model_folder), f"sqlite:///{tmp_path / 'a.db'}") as client:
        added = client.post("/v1/models", json={"name": "new", "source": str(other_folder), "share": 1})
        assert added.status_code == 200, added.text
        assert [(model["name"], model["share"]) for model in added.json()["models"]] == [("default", 0.5), ("new", 0.5)]
        assert (added.json()["against"]["name"], added.json()["tests"]) == ("default", [])
        assert added.json()["not_compared"] == f"{other_folder} lies in no run's folder, so no ranks of test cases are kept beside it."
        used: dict[str, int] = {"default": 0, "new": 0}
        for place in range(20):
            events = [{"user_id": f"user-{place}", "item_id": item_id} for item_id in after(place % 11, 4)]
            client.post("/v1/events", json={"events": events})
            name, found = named(client, f"user-{place}")
            name = name.partition("@")[0]
            used[name] += 1
            assert found == [item.item_id for item in lasers[name].recommend([after(place % 11, 4)], k=6)[0]]
        assert min(used.values()) >= 3
        answer = client.post("/v1/recommendations", json={"user_id": "user-0"}).json()
        hit = {"user_id": "user-0", "item_id": answer["items"][0]["item_id"], "recommendation_id": answer["recommendation_id"]}
        client.post("/v1/events", json={"events": [hit]})
        used[answer["model"]["name"]] += 1
        time.sleep(0.5)  # what was recommended is written every fifth of a second
        counts = {model["name"]: (model["answers"], model["hits"]) for model in client.get("/v1/models").json()["models"]}
    assert counts == {name: (count, int(name == answer["model"]["name"])) for name, count in used.items()}


def test_a_switch_fails_no_request_and_the_new_model_knows_what_changed_before(
    model_folder: Path, other_folder: Path, tmp_path: Path
) -> None:
    with running(Laser.load(model_folder), f"sqlite:///{tmp_path / 'a.db'}") as client:
        client.put("/v1/items/boat", json={"attributes": {"title": "Boat"}})
        client.delete("/v1/items/kite")
        ended = threading.Event()
        seen: list[tuple[int, str]] = []

        def ask() -> None:
            while not ended.is_set():
                answer = client.post("/v1/recommendations", json={"items": ["tent", "map"], "k": 12})
                seen.append((answer.status_code, answer.json()["model"]["version"]))

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            switched = client.post("/v1/models", json={"source": str(other_folder)})
            time.sleep(0.2)
        finally:
            ended.set()
            asking.join(20)
        assert switched.status_code == 200, switched.text
        assert {status for status, _ in seen} == {200}
        versions = [version for _, version in seen]
        assert versions[0] == Laser.load(model_folder).fingerprint()[:12]
        assert versions[-1] == Laser.load(other_folder).fingerprint()[:12]
        assert versions == sorted(versions, key=lambda version: version == versions[-1])
        answer = client.post("/v1/recommendations", json={"items": ["tent"], "k": 20}).json()
        found = {item["item_id"] for item in answer["items"]}
        assert "boat" in found
        assert "kite" not in found


def test_another_model_from_the_command_line(model_folder: Path, other_folder: Path, tmp_path: Path) -> None:
    served = Served(model_folder, f"sqlite:///{tmp_path / 'store.db'}", tmp_path, words=("--model", f"new={other_folder}:0.25"))
    served.start()
    _, answer = served.ask("GET", "/v1/models")
    used = {served.ask("POST", "/v1/recommendations", {"user_id": f"user-{place}"})[1]["model"]["name"] for place in range(30)}
    served.kill()
    assert [(model["name"], model["share"]) for model in answer["models"]] == [("default", 0.75), ("new", 0.25)]
    assert used == {"default", "new"}


def test_a_model_that_cannot_be_loaded_changes_nothing(client: TestClient, tmp_path: Path) -> None:
    before = client.get("/v1/models").json()
    (tmp_path / "empty").mkdir()
    for body in ({"source": str(tmp_path / "absent")}, {"source": str(tmp_path / "empty")}, {"source": "x", "share": 0}):
        refused = client.post("/v1/models", json=body)
        assert (refused.status_code, refused.json()["error"]) == (422, "invalid"), refused.text
    assert client.get("/v1/models").json() == before
