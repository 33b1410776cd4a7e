"""What a run keeps of its settings, and what of it may be damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import small_shop

from laserrec import Dataset
from laserrec.assets import ASSETS
from laserrec.config import LaserConfig
from laserrec.errors import CheckpointError
from laserrec.runs.folder import RunFolder


def begin(folder: Path, config: LaserConfig, data: Dataset, **options: bool) -> RunFolder:
    return RunFolder.begin(folder / "run", config, data, folder / "data", command=["laserrec", "train"], **options)


def test_a_language_models_folder_is_kept_absolute(tmp_path: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "llm").mkdir()
    (tmp_path / ASSETS[0].name).mkdir()  # a download of that name goes before a folder
    monkeypatch.chdir(tmp_path)
    run = begin(tmp_path, small_shop.config("llm"), data)
    assert run.config.llm.model == str(tmp_path / "llm")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["llm"]["model"] == str(tmp_path / "llm")
    for model in ("llm", tmp_path / "llm", "./llm"):
        assert begin(tmp_path, small_shop.config(model), data, resume=True).config == run.config
    for number, name in enumerate((ASSETS[0].name, "hf:owner/name", "absent")):
        assert begin(tmp_path / str(number), small_shop.config(name), data).config.llm.model == name


def test_a_run_that_was_killed_as_it_began_is_begun_again(tmp_path: Path, data: Dataset) -> None:
    run = tmp_path / "run"
    (run / ".run.json.k1ll3d.partial").mkdir(parents=True)
    (run / ".run.json.1234.partial").write_text("half")  # as earlier versions left it
    assert not RunFolder.occupied(run, resume=False)
    begin(tmp_path, LaserConfig(), data)
    (run / "config.json").unlink()  # killed between the two
    begin(tmp_path, LaserConfig(), data, resume=True)
    assert LaserConfig.load(run / "config.json") == LaserConfig()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seconds", "long"),
        ("config", []),
        ("data", None),
        ("command", "laserrec"),
        ("threads", "two"),
        ("finished", 3),
        ("data", {"name": 5}),
    ],
)
def test_a_damaged_description(tmp_path: Path, data: Dataset, name: str, value: Any) -> None:  # noqa: ANN401
    run = begin(tmp_path, LaserConfig(), data)
    (run.path / "run.json").write_text(json.dumps(run.about | {name: value}))
    with pytest.raises(CheckpointError, match=f"run.json is damaged: {name}"):
        RunFolder.open(run.path)


@pytest.mark.parametrize("plan", [{}, [], 5, {"phases": [{}]}, {"phases": 5}])
def test_a_damaged_plan(tmp_path: Path, data: Dataset, plan: Any) -> None:  # noqa: ANN401
    run = begin(tmp_path, LaserConfig(), data)
    (run.path / "run.json").write_text(json.dumps(run.about | {"plan": plan, "finished": "today"}))
    with pytest.raises(CheckpointError, match="its plan cannot be compared"):
        assert RunFolder.open(run.path).compared
