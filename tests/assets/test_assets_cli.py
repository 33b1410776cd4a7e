"""`laserrec assets`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from laserrec.assets import ASSETS, fetched_folder, find
from laserrec.cli.assets import app


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds ml-100k and nothing else."""
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path))
    fetched_folder(find("ml-100k")).mkdir()
    return tmp_path


def test_list_shows_licences_and_what_is_there(cache: Path) -> None:
    shown = CliRunner().invoke(app, ["list"])
    lines = shown.stdout.splitlines()
    assert shown.exit_code == 0
    assert lines[0].startswith("smollm2-135m-instruct     92.9 MB  not fetched   Apache-2.0")
    assert lines[2].startswith("ml-100k                    2.1 MB  in the cache  GroupLens MovieLens terms")
    assert "Research use" in lines[3]
    assert str(cache) in lines[4]


def test_list_for_machines() -> None:
    listed = json.loads(CliRunner().invoke(app, ["list", "--json"]).stdout)["assets"]
    assert {row["name"]: (row["fetched"], row["sha256"]) for row in listed} == {
        asset.name: (asset.name == "ml-100k", asset.sha256) for asset in ASSETS
    }


def test_fetch_tells_the_folder() -> None:
    assert CliRunner().invoke(app, ["fetch", "ml-100k"]).stdout == f"ml-100k: {fetched_folder(find('ml-100k'))}\n"
