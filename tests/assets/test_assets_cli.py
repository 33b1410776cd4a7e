"""`laserrec assets`."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from filelock import FileLock
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


NEW, OLD, OLDER = "a" * 32, "b" * 32, f"{'c' * 32}.safetensors"


@pytest.fixture
def texts(cache: Path) -> Path:
    """Two folders of encoded texts, used today and 40 days ago, and one file as older versions kept them."""
    for name, days in ((NEW, 0), (OLD, 40)):
        folder = cache / "texts" / name
        folder.mkdir(parents=True)
        (folder / "shard-000000.safetensors").write_bytes(bytes(2**20))
        (folder / "manifest.json").write_text("{}")
        os.utime(folder / "manifest.json", (time.time() - days * 86_400,) * 2)
    (cache / "texts" / OLDER).write_bytes(bytes(10))
    return cache / "texts"


def left(texts: Path) -> list[str]:
    return sorted(path.name for path in texts.iterdir() if path.suffix != ".lock")


def clean(*options: str) -> list[str]:
    outcome = CliRunner().invoke(app, ["clean", *options])
    assert outcome.exit_code == 0
    return outcome.stdout.splitlines()


def test_clean_shows_and_keeps(texts: Path) -> None:
    lines = clean()
    assert lines[0].split() == [OLD, "0.00", "GiB", "unused", "for", "40.0", "days", "kept"]
    assert lines[-2] == f"3 in {texts}, 0.00 GiB"
    assert len(left(texts)) == 3


def test_clean_removes_what_is_long_unused(texts: Path) -> None:
    assert clean("--unused-days", "30")[0].endswith("removed")
    assert left(texts) == sorted([NEW, OLDER])
    clean("--all")
    assert left(texts) == []


def test_clean_leaves_what_is_being_written(texts: Path) -> None:
    with FileLock(texts / OLD / ".lock"):
        assert clean("--all")[0].endswith("kept: a run is adding to it")
    assert left(texts) == [OLD]


def test_clean_removes_nothing_that_is_not_ours(texts: Path) -> None:
    """LASERREC_CACHE may name a folder that holds other things, with a folder `texts` among them."""
    (texts / "thesis").mkdir()
    others = [texts / "thesis" / "chapter.txt", texts / "letter.safetensors", texts / "notes.txt", texts / OLD / "notes.txt"]
    for path in others:
        path.write_text("precious")
    (texts / ("d" * 32)).symlink_to(texts / "thesis")
    clean("--all")
    assert [path.read_text() for path in others] == ["precious"] * 4
    assert left(texts) == sorted([OLD, "d" * 32, "letter.safetensors", "notes.txt", "thesis"])
    assert clean() == [f"0 in {texts}, 0.00 GiB"]


def test_nothing_to_clean(cache: Path) -> None:
    assert clean("--all") == [f"0 in {cache / 'texts'}, 0.00 GiB"]
