"""The experiments' settings are valid, and the runner answers one on a tiny shop."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from laserrec.config import LaserConfig

FOLDER = Path(__file__).parents[2] / "experiments"
sys.path[:0] = [str(Path(__file__).parents[1] / "recommender"), str(Path(__file__).parents[1] / "core")]

import small_shop  # noqa: E402 - found on the path above


@pytest.fixture(scope="module")
def runner() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(FOLDER / "run.py"), run_name="runner"))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_arm_is_a_valid_and_different_setting(runner: SimpleNamespace, path: Path) -> None:
    experiment = runner.Experiment.read(path)
    assert experiment.question.endswith("?")
    configs = {arm: LaserConfig().override([*experiment.settings, *changes]) for arm, changes in experiment.arms.items()}
    assert len({config.model_dump_json() for config in configs.values()}) == len(configs)
    assert next(iter(experiment.arms.values())) == []  # the first is the reference


def test_arms_share_what_does_not_differ_and_are_tested_against_the_first(
    runner: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "cache"))
    small_shop.dataset().save(tmp_path / "data")
    llm = small_shop.write_llm(tmp_path / "llm")
    small = [f"{section}.{key}={value}" for section, values in small_shop.SMALL.items() for key, value in values.items()]
    (tmp_path / "asked.toml").write_text(
        'question = "Does it?"\nseeds = [0, 1]\nsettings = []\n[arms]\nall = []\n"no prefix" = ["virtual.prefix_length=0"]\n'
        '"no ids" = ["collaborative.items=text"]\n'
    )
    experiment = runner.Experiment.read(tmp_path / "asked.toml")
    further = [*(line.replace("'", '"') for line in small), f"llm.model={llm}", "llm.dtype=float32"]
    found = runner.run(experiment, tmp_path / "data", tmp_path / "out", None, further)
    assert [arm["arm"] for arm in found["arms"]] == ["all", "no prefix", "no ids"]
    assert "against_reference" not in found["arms"][0]
    ours, other = (arm["test"]["all"]["ndcg@10"][0] for arm in found["arms"][:2])
    assert found["arms"][1]["against_reference"]["all"]["reference_minus_arm"] == pytest.approx(ours - other)
    kept = {
        arm: (tmp_path / "out" / arm / "seed-1" / "collaborative" / "checkpoint.safetensors").read_bytes() for arm in ("all", "no-prefix")
    }
    assert kept["all"] == kept["no-prefix"]
    assert json.dumps(found)
    lines = runner.table(found).splitlines()
    assert sum(line.startswith("| no prefix") for line in lines) == 2  # a table a protocol
    assert {line.count("|") for line in lines if line.startswith("|")} == {7}
    again = runner.run(experiment, tmp_path / "data", tmp_path / "out", ["no prefix"], further)
    assert again["arms"] == found["arms"]  # what is finished stays in the table
    with pytest.raises(SystemExit, match="has no arm fewer; it has all, no prefix, no ids"):
        runner.run(experiment, tmp_path / "data", tmp_path / "out", ["fewer"], further)
