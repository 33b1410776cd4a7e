"""`push_to_hub`, and loading a model and its language model by their names on the hub, through huggingface_hub and HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import local_hub
import publishing
import pytest
import small_shop
from local_hub import LocalHub, Repository

from laserrec import Dataset, Laser
from laserrec.errors import AssetError
from laserrec.laser.folder import FILES
from laserrec.llm.backbone import Backbone


@pytest.fixture(scope="module")
def hub(llm: Path) -> Iterator[LocalHub]:
    """A hub that has nothing but the language model, open to all."""
    with local_hub.serving() as hub:
        hub.repositories["shop/tiny-llama"] = Repository({path.name: path.read_bytes() for path in llm.iterdir()})
        yield hub


def run(folder: Path, endpoint: str, *words: str, **environment: str) -> dict[str, Any]:
    """Run publishing.py with the caches in `folder` and return what it says."""
    kept = {key: value for key, value in os.environ.items() if not key.upper().endswith("PROXY") and not key.startswith("HF_")}
    own = {"HF_HOME": str(folder / "hf"), "LASERREC_CACHE": str(folder / "cache"), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, publishing.__file__, *words]
    answer = subprocess.run(command, env=kept | own | environment, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert answer.returncode == 0, answer.stderr
    said: dict[str, Any] = json.loads(answer.stdout)
    return said


@pytest.fixture(scope="module")
def published(trained: Laser, hub: LocalHub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What publishing said. The language model is named as the hub names it, as in a run that was trained from there."""
    folder = tmp_path_factory.mktemp("publisher")
    trained.save(folder / "model")
    settings = json.loads((folder / "model" / "config.json").read_text())
    settings["llm"]["model"] = "hf:shop/tiny-llama"
    (folder / "model" / "config.json").write_text(json.dumps(settings))
    return run(folder, hub.endpoint, "publish", str(folder / "model"), HF_TOKEN=local_hub.TOKEN)


@pytest.fixture(scope="module")
def visitor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where somebody else works, with nothing in any cache."""
    return tmp_path_factory.mktemp("visitor")


@pytest.fixture(scope="module")
def visited(published: dict[str, Any], hub: LocalHub, visitor: Path) -> dict[str, Any]:
    """What visiting said."""
    return run(visitor, hub.endpoint, "visit", SHOP_TOKEN=local_hub.TOKEN)


def test_what_lies_on_the_hub_is_the_model_folder(published: dict[str, Any], hub: LocalHub) -> None:
    repository = hub.repositories["shop/laser"]
    assert sorted(repository.files) == sorted(FILES)
    assert repository.messages == ["Upload a laserrec model"] * 2
    assert published["address"] == f"{hub.endpoint}/shop/laser/commit/{repository.commit}"
    # A repository that exists stays as it is: private.
    assert (repository.private, hub.repositories["shop/open"].private) == (True, False)


def test_pushing_that_is_refused_is_told_as_such(published: dict[str, Any]) -> None:
    kind, text = published["strangers"]
    assert kind == "AssetError"
    assert "'shop/laser'" in text
    assert "Invalid username or password" in text
    kind, text = published["badly_named"]
    assert kind == "AssetError"
    assert "'shop/laser/model'" in text


def test_a_model_from_the_hub_recommends_the_same_elsewhere(published: dict[str, Any], visited: dict[str, Any]) -> None:
    assert any(item_id == "canoe" for item_id, _, _ in published["recommended"][0])
    assert visited["recommended"] == visited["open"] == published["recommended"]


def test_a_language_model_by_its_name_on_the_hub(visited: dict[str, Any], llm: Path) -> None:
    local = Backbone.load(llm, dtype="float32")
    assert visited["fingerprint"] == local.fingerprint()
    assert visited["tokens"] == local.tokenize("Tent") == [51, 68, 77, 83]


@pytest.mark.parametrize("case", ["private", "nowhere", "not_a_name"])
def test_a_repository_that_is_not_there_for_us(visited: dict[str, Any], case: str) -> None:
    kind, text = visited[case]
    assert kind == "AssetError"
    name = {"private": "shop/laser", "nowhere": "shop/nowhere", "not_a_name": "shop/-no..name-"}[case]
    assert text.startswith(f"The Hugging Face repository '{name}' cannot be had: ")


@pytest.mark.parametrize("name", ["shop/laser", "runs/shop", "hf/shop/laser", "HF:shop/laser"])
def test_a_path_that_is_not_there_is_not_looked_for_on_the_hub(
    data: Dataset, llm: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def download(*_: object, **__: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    started = small_shop.config(llm).model_copy(update={"start": name})
    for ask in (lambda: Laser.load(name), lambda: Laser.transfer(name, data), lambda: Laser.fit(data, started)):
        with pytest.raises(AssetError, match=rf"no model folder '{name}' here.*is written hf:owner/name"):
            ask()
    # What is asked for explicitly is.
    with pytest.raises(AssertionError, match="the hub was asked"):
        Laser.load("hf:shop/laser")


def test_a_repository_of_another_kind(visited: dict[str, Any]) -> None:
    kind, text = visited["not_a_model"]
    assert kind == "CheckpointError"
    assert "it lacks laser.json" in text
    kind, text = visited["no_llm"]
    assert kind == "AssetError"
    assert text.startswith("Cannot load the language model 'shop/no-llm'")


@pytest.mark.parametrize(
    ("endpoint", "environment"),
    [
        pytest.param("http://hub.invalid", {"HF_HUB_OFFLINE": "1"}, id="offline"),
        # Where nobody answers, huggingface_hub tries again for a minute.
        pytest.param("http://127.0.0.1:9", {}, id="nobody there", marks=pytest.mark.slow),
    ],
)
def test_without_the_hub_what_was_loaded_before_still_loads(
    visited: dict[str, Any], visitor: Path, endpoint: str, environment: dict[str, str]
) -> None:
    said = run(visitor, endpoint, "offline", **environment)
    assert said["recommended"] == visited["recommended"]
    assert (said["nowhere"][0], said["no_llm"][0]) == ("AssetError", "AssetError")


def test_a_proxy_that_lets_nothing_through(hub: LocalHub, tmp_path: Path) -> None:
    # The hub is no proxy, and says so at once.
    said = run(tmp_path, "https://hub.invalid", "kept_out", HTTPS_PROXY=hub.endpoint)
    assert said["model"][0] == said["llm"][0] == "AssetError"
    assert "Unsupported method ('CONNECT')" in said["model"][1]
