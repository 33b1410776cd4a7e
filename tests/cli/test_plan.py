"""`laserrec train --plan`, and what a run says of its own prediction. No speed is asserted, only that figures hang together."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor

from laserrec.config import LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.data.ragged import Ragged
from laserrec.laser.experts import Routing
from laserrec.laser.system import LaserSystem
from laserrec.runs.folder import RunFolder
from laserrec.runs.planning import id_based
from laserrec.runs.planning import preflight as module
from laserrec.runs.planning.neighbours import NeighbourCost
from laserrec.runs.planning.plan import Plan
from laserrec.runs.planning.preflight import Rivals, micro_batch, preflight
from laserrec.runs.planning.probe import FitCost
from laserrec.runs.planning.texts import Rereading, TextCost

Run = Callable[..., tuple[int, str, str]]
WORDS = ("train", "--data", "data", "--out", "new", "--config", "laser.toml")
PHASES = ["text vectors", "collaborative", "sasrec", "sasrec-text-id", "texts", "stage1", "stage2", "rest"]
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
    assert [phases[name]["epochs"] for name in PHASES] == [0, 2, 2, 2, 0, 2, 1, 0]
    # 10 titles and what stands around each, ">> " and a line's end, a byte a token; 2 layers of 2 heads of 8 float32, keys and values.
    tokens = sum(len(item["title"]) + 4 for item in Dataset.load(shop / "data").attributes())
    encoded = tokens * 2 * 2 * 2 * 8 * 4
    # Beside them each title as one vector of 32 float32, for the refit that reads vectors.
    assert plan["disk"]["texts"] == plan["disk"]["texts_all"] == encoded + 10 * 32 * 4
    assert plan["memory"]["texts"] == plan["memory"]["texts_all"] == encoded
    assert plan["memory"]["peak"] >= plan["memory"]["process"] + plan["memory"]["texts"]
    assert plan["disk"]["run"] > 0
    assert (plan["chosen"], plan["warnings"]) == ({}, [])


NEAR = NeighbourCost(counting=1000.0, blending=100.0, memory=2**40)


def seconds(plan: Plan) -> dict[str, float]:
    """An epoch's of stage 1 and of stage 2, and those of the rest, in whole hundreds: what is tried here takes far less."""
    phases = {phase.name: phase for phase in plan.phases}
    found = {"stage1": phases["stage1"].epoch, "stage2": phases["stage2"].epoch, "rest": phases["rest"].once}
    return {name: took // 100 * 100 for name, took in found.items()}


@pytest.mark.parametrize(
    ("settings", "untrained", "expected"),
    [
        ([], False, {"stage1": 500, "stage2": 0, "rest": 1300}),  # counted once, blended into all and into both kinds
        (['collaborative.refits=["id"]'], False, {"stage1": 500, "stage2": 0, "rest": 1100}),
        (["collaborative.neighbours=false", "score.nearest=false"], False, {"stage1": 0, "stage2": 0, "rest": 0}),
        (["collaborative.refits=[]"], False, {"stage1": 500, "stage2": 0, "rest": 0}),
        ([], True, {"stage1": 500, "stage2": 0, "rest": 3400}),  # counted as a baseline and for the ensemble as well
        (["collaborative.refits=[]"], True, {"stage1": 500, "stage2": 0, "rest": 1000}),
    ],
)
def test_neighbours_are_part_of_the_time(
    shop: Path, monkeypatch: pytest.MonkeyPatch, settings: list[str], untrained: bool, expected: dict[str, float]
) -> None:
    monkeypatch.setattr(module, "finding_seconds", lambda _: 500.0)
    monkeypatch.setattr(module, "try_neighbours", lambda *_: NEAR)
    config = LaserConfig.load(shop / "laser.toml").override(settings)
    assert seconds(preflight(Dataset.load(shop / "data"), config, shop / "new", Rivals({}, untrained))) == expected


def test_histories_that_are_read_are_part_of_the_time(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, embed = list[int](), LaserSystem.embed

    def counted(laser: LaserSystem, items: Tensor, mask: Tensor) -> tuple[Tensor, Routing | None]:
        rows.append(len(items))
        return embed(laser, items, mask)

    def thousand_a_history(work: Callable[[], object]) -> float:
        rows.clear()
        work()
        return 1000.0 * sum(rows)

    monkeypatch.setattr(LaserSystem, "embed", counted)
    monkeypatch.setattr(module, "seconds_of", thousand_a_history)
    monkeypatch.setattr(module, "finding_seconds", lambda _: 0.0)
    monkeypatch.setattr(module, "try_neighbours", lambda *_: NeighbourCost())
    data, config = Dataset.load(shop / "data"), LaserConfig.load(shop / "laser.toml")
    valid, test, learnt = len(data.cases("valid")), len(data.cases("test")), int((data.training_histories().lengths > 1).sum())
    for settings, fused in (([], valid), (["collaborative.refits=[]"], 0)):
        phases = {phase.name: phase for phase in preflight(data, config.override(settings), shop / "new").phases}
        # Both parts are evaluated; whatever is chosen among, the validation histories are read once for it.
        assert phases["rest"].once // 100 == 10 * (valid + test + fused)
        assert phases["stage1"].once // 100 == 10 * learnt  # the scalars are fitted on them


def test_neighbours_are_part_of_the_memory(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, config = Dataset.load(shop / "data"), LaserConfig.load(shop / "laser.toml")
    without = preflight(data, config.override(["collaborative.neighbours=false", "score.nearest=false"]), shop / "new").memory.training
    with monkeypatch.context() as patch:
        patch.setattr(module, "try_neighbours", lambda *_: NEAR)
        assert preflight(data, config, shop / "new").memory.training == 2**40
    monkeypatch.setattr(module, "finding_memory", lambda count, width: 2**30 * count + width)
    assert preflight(data, config, shop / "new").memory.training >= 10 * 2**30 + 32 > without


def test_texts_that_are_encoded_need_no_room(laserrec: Run) -> None:
    plan = json.loads(laserrec(*WORDS, "--plan", "--json")[1])
    assert plan["disk"]["texts"] == 0
    assert plan["disk"]["texts_all"] > 0
    phases = {phase["name"]: phase for phase in plan["phases"]}
    assert list(phases) == PHASES[1:]  # nor is any read as a vector again
    assert phases["texts"]["at_most"] == 0


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
    assert [phase["name"] for phase in plan["phases"]] == [*before, "collaborative", "texts", "stage1", "stage2", "rest"]


def test_a_run_keeps_its_plan_and_is_compared_with_it(laserrec: Run, shop: Path) -> None:
    code, out, err = laserrec(*WORDS)
    assert code == 0
    assert "Predicted: " in err
    assert "Predicted and actual" in out
    about = json.loads((shop / "new" / "run.json").read_text())
    phases = PHASES[1:]  # the texts are there as vectors
    assert [phase["name"] for phase in about["plan"]["phases"]] == phases
    compared = {row["what"]: row for row in json.loads(laserrec("train", "--out", "new", "--resume", "--json")[1])["predicted"]}
    assert list(compared) == [*phases, "time", "memory", "disk, texts", "disk, run"]
    assert compared["time"]["actual"] == pytest.approx(about["seconds"])
    records = [json.loads(line) for line in (shop / "new" / "stage1" / "metrics.jsonl").read_text().splitlines()]
    assert compared["stage1"]["actual"] == records[-1]["seconds"]
    assert compared["stage1"]["epochs"] == records[-1]["epoch"]
    stage = about["plan"]["phases"][phases.index("stage1")]
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
    monkeypatch.setattr(module, "available_memory", lambda *_: 0)
    monkeypatch.setattr(module, "resident_memory", lambda *_: 40)
    for where in (module, id_based):
        monkeypatch.setattr(where, "try_fit", lambda *_, **__: FitCost(0.1, 0.1, 0.1, 100, 0, 3))
    plan = preflight(Dataset.load(shop / "data"), LaserConfig.load(shop / "laser.toml"), shop / "new")
    assert plan.chosen == {"fit_collaborative.micro_batch_size": 2, "stage1.micro_batch_size": 2, "stage2.micro_batch_size": 2}
    assert plan.config.stage1.micro_batch_size == plan.config.stage2.micro_batch_size == 2
    assert [warning.partition(":")[0] for warning in plan.warnings] == ["Memory looks short"]


def test_texts_beyond_memory_are_read_again(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, config = Dataset.load(shop / "data"), LaserConfig.load(shop / "laser.toml").override(["score.new_items=0"])
    learnt, valid, test = int((data.training_histories().lengths > 1).sum()), len(data.cases("valid")), len(data.cases("test"))
    again, asked = [Rereading(0.0, 0.0), Rereading(5000.0, 1000.0)], []

    def told(texts: object, histories: Ragged, cost: TextCost, *, rows: int, spare: int, folder: Path) -> Rereading:
        asked.append((rows, [history.tolist() for history in histories]))
        return again.pop(0)

    monkeypatch.setattr(module, "rereading", told)
    monkeypatch.setattr(module, "micro_batch", lambda *_: 3)
    plans = [preflight(data, config, shop / "new"), preflight(data, config, shop / "new")]
    before, after = ({phase.name: phase for phase in plan.phases} for plan in plans)
    limit = config.prompt.max_history
    assert asked[0] == (3, [history[:-1][-limit:].tolist() for history in data.training_histories() if len(history) > 1])
    assert after["stage1"].epoch - before["stage1"].epoch == pytest.approx(5000 + 1000 * (learnt + valid), abs=50)
    assert after["stage2"].epoch - before["stage2"].epoch == pytest.approx(1000 * (learnt + valid), abs=50)
    # Validated before the first epoch, and the scalars fitted; both parts evaluated, and validation read once for what is fused.
    assert after["stage1"].once - before["stage1"].once == pytest.approx(1000 * (valid + learnt), abs=50)
    assert after["rest"].once - before["rest"].once == pytest.approx(1000 * (2 * valid + test), abs=50)


def test_a_limit_of_memory_is_warned_of_and_room_for_files_is_what_is_left(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = list[int]()
    monkeypatch.setattr(module, "rereading", lambda *_, spare, **__: (left.append(spare), Rereading(0.0, 0.0))[1])
    plan = preflight(
        Dataset.load(shop / "data"), LaserConfig.load(shop / "laser.toml").override(["llm.cache_memory=0.000001"]), shop / "new"
    )
    assert "which is part of the predicted time" in plan.warnings[0]
    assert left == [max(0, plan.memory.available - plan.memory.peak)]


def test_what_is_worked_on_at_a_time_is_told(laserrec: Run, shop: Path) -> None:
    _, out, _ = laserrec(*WORDS, "--plan", "--set", "stage1.micro_batch_size=4", "--set", "fit_collaborative.batch_size=7")
    assert "At a time: rows of the id-based fits 7; rows of stage1 4; rows of stage2 " in out
    assert "; histories scored 128; items given neighbours 10\n" in out


def test_what_was_chosen_is_the_runs_and_does_not_stand_in_the_way_of_resuming(
    laserrec: Run, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "micro_batch", lambda batch, row, available: 4)
        code, _, err = laserrec(*WORDS)
    assert code == 0
    assert "Chosen for this machine: stage1.micro_batch_size = 4." in err
    assert json.loads((shop / "new" / "config.json").read_text())["stage1"]["micro_batch_size"] == 4
    assert laserrec(*WORDS, "--resume")[0] == 0
    code, _, err = laserrec(*WORDS, "--resume", "--set", "stage1.micro_batch_size=2")
    assert code == 1
    assert "stage1.micro_batch_size = 2 (the run's: 4)" in err


def test_a_full_disk_is_refused_before_anything_is_written(laserrec: Run, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASERREC_CACHE", str(shop / "empty"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 1024, 1024))
    code, out, err = laserrec(*WORDS)
    assert (code, out) == (1, "")
    assert "error: The encoded texts need " in err
    assert "where 1 KiB are free. Make room (laserrec assets clean)" in err
    assert not (shop / "new").exists()
    code, out, _ = laserrec(*WORDS, "--plan")
    assert code == 0
    assert "Warning: The encoded texts need" in out


def test_a_plan_is_of_a_new_run(laserrec: Run) -> None:
    code, _, err = laserrec("train", "--out", "run", "--resume", "--plan")
    assert code == 2
    assert "--plan predicts a new run; leave --resume out" in err
