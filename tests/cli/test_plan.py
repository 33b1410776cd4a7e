"""`laserrec train --plan`, and what a run says of its own prediction. No speed is asserted, only that figures hang together."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from laserrec.config import LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.runs import estimate as module
from laserrec.runs.estimate import estimate_run, micro_batch
from laserrec.runs.folder import RunFolder
from laserrec.training import laser_stage, sequential_stage
from laserrec.training.estimates import Estimate

Run = Callable[..., tuple[int, str, str]]
WORDS = ("train", "--data", "data", "--out", "new", "--config", "laser.toml")
PHASES = ["text vectors", "collaborative", "texts", "stage1", "stage2", "sasrec", "sasrec-text-id", "fusing", "rest"]
Usage = namedtuple("Usage", "total used free")


def files(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path.relative_to(folder)), path.stat().st_size) for path in folder.rglob("*") if path.is_file())


def test_a_plan_writes_nothing(laserrec: Run, shop: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "cache"))
    before = files(shop)
    code, out, _ = laserrec(*WORDS, "--plan")
    assert code == 0
    assert "memory, at its peak" in out
    assert "stage1" in out
    assert (files(shop), files(tmp_path / "cache")) == (before, [])
    assert not (shop / "new").exists()


def test_the_figures_hang_together(laserrec: Run, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASERREC_CACHE", str(shop / "empty"))
    plan = json.loads(laserrec(*WORDS, "--plan", "--json")[1])
    phases = {phase["name"]: phase for phase in plan["phases"]}
    assert list(phases) == PHASES
    assert plan["seconds_at_most"] == pytest.approx(sum(phase["at_most"] for phase in phases.values()))
    for phase in phases.values():
        assert phase["at_most"] == pytest.approx(phase["once"] + phase["epoch"] * phase["epochs"])
        assert phase["at_most"] > 0
    assert [phases[name]["epochs"] for name in PHASES] == [0, 2, 0, 2, 1, 2, 2, 0, 0]
    # 10 titles and what stands around each, ">> " and a line's end, a byte a token; 2 layers of 2 heads of 8 float32, keys and values.
    tokens = sum(len(item["title"]) + 4 for item in Dataset.load(shop / "data").attributes())
    encoded = tokens * 2 * 2 * 2 * 8 * 4
    # Beside them each title as one vector of 32 float32, for the refit that reads vectors.
    assert plan["disk"]["texts"] == plan["disk"]["texts_all"] == encoded + 10 * 32 * 4
    assert plan["memory"]["texts"] == plan["memory"]["texts_all"] == encoded
    assert plan["memory"]["peak"] >= plan["memory"]["process"] + plan["memory"]["texts"]
    assert plan["disk"]["run"] > 0
    assert (plan["chosen"], plan["warnings"]) == ({}, [])


def test_texts_that_are_encoded_need_no_room(laserrec: Run) -> None:
    plan = json.loads(laserrec(*WORDS, "--plan", "--json")[1])
    assert plan["disk"]["texts"] == 0
    assert plan["disk"]["texts_all"] > 0
    phases = {phase["name"]: phase for phase in plan["phases"]}
    assert list(phases) == PHASES
    assert phases["texts"]["at_most"] == phases["text vectors"]["at_most"] == 0  # nor is any read as a vector again


def test_prefix_first_has_no_texts_to_encode(laserrec: Run) -> None:
    plan = json.loads(laserrec(*WORDS, "--plan", "--json", "--set", "prompt.order=prefix_first")[1])
    assert (plan["disk"]["texts_all"], plan["memory"]["texts_all"]) == (10 * 32 * 4, 0)  # vectors are read all the same
    assert {phase["name"]: phase for phase in plan["phases"]}["stage1"]["epoch"] > 0


@pytest.mark.parametrize(("model", "before"), [("sasrec", []), ("fdsa", ["text vectors"])])
def test_texts_are_read_as_vectors_where_a_model_wants_them(
    laserrec: Run, shop: Path, monkeypatch: pytest.MonkeyPatch, model: str, before: list[str]
) -> None:
    monkeypatch.setenv("LASERREC_CACHE", str(shop / "empty"))
    own = ("--set", f"collaborative.model={model}", "--set", "collaborative.refits=[]")
    plan = json.loads(laserrec(*WORDS, "--plan", "--json", *own)[1])
    assert [phase["name"] for phase in plan["phases"]] == [*before, "collaborative", "texts", "stage1", "stage2", "fusing", "rest"]


def test_a_run_keeps_its_plan_and_is_compared_with_it(laserrec: Run, shop: Path) -> None:
    code, out, err = laserrec(*WORDS)
    assert code == 0
    assert "Predicted: " in err
    assert "Predicted and actual" in out
    about = json.loads((shop / "new" / "run.json").read_text())
    assert [phase["name"] for phase in about["plan"]["phases"]] == PHASES
    compared = {row["what"]: row for row in json.loads(laserrec("train", "--out", "new", "--resume", "--json")[1])["predicted"]}
    assert list(compared) == [*PHASES, "time", "memory", "disk, texts", "disk, run"]
    assert compared["time"]["actual"] == pytest.approx(about["seconds"])
    records = [json.loads(line) for line in (shop / "new" / "stage1" / "metrics.jsonl").read_text().splitlines()]
    assert compared["stage1"]["actual"] == records[-1]["seconds"]
    assert compared["stage1"]["epochs"] == records[-1]["epoch"]
    stage = about["plan"]["phases"][PHASES.index("stage1")]
    assert compared["stage1"]["predicted"] == pytest.approx(stage["once"] + records[-1]["epoch"] * stage["epoch"])
    assert compared["disk, texts"]["actual"] == 0
    assert compared["memory"]["actual"] > 0
    # Checkpoints, weights and tables; what is small beside them is left out.
    assert compared["disk, run"]["predicted"] == pytest.approx(compared["disk, run"]["actual"], rel=0.25)


def test_a_plan_changes_nothing_of_what_is_trained(shop: Path) -> None:
    from safetensors.torch import load_file

    from laserrec.runs.folder import train_run

    data, config = Dataset.load(shop / "data"), LaserConfig.load(shop / "laser.toml")
    train_run(RunFolder.begin(shop / "unplanned", config, data, shop / "data", command=[]), data)
    first, second = (load_file(shop / run / "model" / "laser.safetensors") for run in ("unplanned", "run"))
    assert all(first[name].equal(second[name]) for name in first)


def test_a_run_without_a_plan_is_not_compared(laserrec: Run, shop: Path) -> None:
    about = json.loads((shop / "run" / "run.json").read_text())
    del about["plan"]
    (shop / "run" / "run.json").write_text(json.dumps(about))
    code, out, _ = laserrec("train", "--out", "run", "--resume")
    assert code == 0
    assert "Predicted" not in out


@pytest.mark.parametrize(
    ("batch", "row", "available", "chosen"),
    [
        (64, 100, 25_600, None),  # 6,400 bytes are a quarter
        (64, 101, 25_600, 32),
        (64, 1_000, 25_600, 4),  # 6 would fit, and 4 is the largest halving
        (48, 1_000, 25_600, 6),
        (5, 10_000, 25_600, 1),  # one row is the least
        (64, 0, 0, None),
    ],
)
def test_micro_batches_by_hand(batch: int, row: int, available: int, chosen: int | None) -> None:
    assert micro_batch(batch, row, available) == chosen


def test_little_memory_chooses_micro_batches_and_warns(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def three_bytes_a_row(name: str, *_: object, micro_batch: Any, **__: object) -> Estimate:  # noqa: ANN401 - one of two names
        return Estimate(name, epochs=1, batch=64, row=3, micro_batch=micro_batch)

    monkeypatch.setattr("laserrec.training.context.available_memory", lambda *_: 0)
    monkeypatch.setattr("laserrec.training.context.resident_memory", lambda *_: 40)
    for where in (sequential_stage, laser_stage):
        monkeypatch.setattr(where, "estimate_fit", three_bytes_a_row)
    plan = estimate_run(Dataset.load(shop / "data"), LaserConfig.load(shop / "laser.toml"), shop / "new")
    assert plan.chosen == {"runtime.sequential_micro_batch": 2, "runtime.laser_micro_batch": 2}  # two rows take six of forty bytes
    assert (plan.config.runtime.sequential_micro_batch, plan.config.runtime.laser_micro_batch) == (2, 2)
    assert [warning.partition(":")[0] for warning in plan.warnings] == ["Memory looks short"]


def test_a_limit_of_memory_is_warned_of(shop: Path) -> None:
    config = LaserConfig.load(shop / "laser.toml").override(["runtime.text_memory=0.000001"])
    plan = estimate_run(Dataset.load(shop / "data"), config, shop / "new")
    assert plan.memory.texts < plan.memory.texts_all
    assert "which is part of the predicted time" in plan.warnings[0]


def test_what_is_worked_on_at_a_time_is_told(laserrec: Run, shop: Path) -> None:
    _, out, _ = laserrec(*WORDS, "--plan", "--set", "runtime.laser_micro_batch=4", "--set", "fit_collaborative.batch_size=7")
    assert "At a time: rows of collaborative 7; rows of stage1 4; rows of stage2 4; rows of sasrec 7; rows of sasrec-text-id 7" in out
    assert "; histories scored 128; items given neighbours 10\n" in out


def test_what_was_chosen_is_kept_and_what_differs_is_said(laserrec: Run, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "micro_batch", lambda batch, row, available: 4)
        code, _, err = laserrec(*WORDS)
    assert code == 0
    assert "Chosen for this machine: runtime.laser_micro_batch = 4." in err
    assert json.loads((shop / "new" / "config.json").read_text())["runtime"]["laser_micro_batch"] == 4
    about = json.loads((shop / "new" / "run.json").read_text())
    (shop / "new" / "run.json").write_text(json.dumps({**about, "finished": None}))
    code, _, err = laserrec(*WORDS, "--resume")
    assert (code, "Goes on with" in err) == (0, False)
    (shop / "new" / "run.json").write_text(json.dumps({**about, "finished": None}))
    other = ("--set", "runtime.laser_micro_batch=2", "--set", "runtime.text_memory=0.5", "--set", "runtime.checkpoint_seconds=5")
    code, _, err = laserrec(*WORDS, "--resume", *other)
    assert code == 0
    assert "Goes on with runtime.laser_micro_batch = 2 (begun with 4): the last digits may differ." in " ".join(err.split())
    assert "text_memory" not in err


def test_a_full_disk_is_refused_before_anything_is_written(laserrec: Run, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASERREC_CACHE", str(shop / "empty"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 1024, 1024))
    code, out, err = laserrec(*WORDS)
    assert (code, out) == (1, "")
    assert "error: The encoded texts need " in err
    assert "where 1 KiB are free. Make room by removing encoded texts" in err
    assert not (shop / "new").exists()
    code, out, _ = laserrec(*WORDS, "--plan")
    assert code == 0
    assert "Warning: The encoded texts need" in out


def test_a_plan_is_of_a_new_run(laserrec: Run) -> None:
    code, _, err = laserrec("train", "--out", "run", "--resume", "--plan")
    assert code == 2
    assert "--plan predicts a new run; leave --resume out" in err
