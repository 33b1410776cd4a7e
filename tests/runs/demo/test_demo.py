"""The demonstration on a dozen users and a language model of a few thousand weights."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from laserrec.config import LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.data.prepare import PrepareOptions, prepare
from laserrec.evaluation.metrics import PROTOCOLS, Evaluation
from laserrec.recommender import Laser
from laserrec.runs import demo
from laserrec.runs.demo import Verdict, compare_with_others, demo_config, examples, introduce, others_config
from laserrec.runs.folder import Result, RunFolder, train_run

FILMS = ("Heat", "Alien", "Fargo", "Big Night", "Sneakers", "Dr. Strangelove", "Babe", "Seven", "Clerks", "Brazil")
MODELS = ["Popularity", "Item neighbours", "EASE", "Neighbours + TF-IDF + EASE", "SASRec"]
NEW = {"item_id": "new", "title": "Alien Night"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Twelve users who saw eight of ten films each."""
    folder = tmp_path_factory.mktemp("films")
    rows = [f"u{user:02},f{(user * 3 + step) % 10},{1_700_000_000 + 100 * user + step}" for user in range(12) for step in range(8)]
    (folder / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    (folder / "films.csv").write_text("\n".join(["item_id,title", *(f"f{place},{title}" for place, title in enumerate(FILMS))]) + "\n")
    return prepare(folder, PrepareOptions(name="films", min_user=1, min_item=1))[0]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> LaserConfig:
    """Small settings around a small language model on disk."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("llm")
    torch.manual_seed(0)
    tiny.tokenizer().save_pretrained(folder)
    AutoModelForCausalLM.from_config(tiny.llm_config("llama-grouped"), dtype=torch.float32).save_pretrained(folder)
    fits = {name: {"epochs": 2} for name in ("fit_collaborative", "stage1", "stage2")}
    return tiny.config(llm={"model": str(folder)}, collaborative={"width": 8, "max_history": 10, "refits": ("id",)}, **fits)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _use_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASERREC_CACHE", str(cache))


@pytest.fixture(scope="module")
def model(data: Dataset, config: LaserConfig, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model."""
    path = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LASERREC_CACHE", str(cache))
        run = RunFolder.begin(path, config, data, path / "data", command=["laserrec", "demo"], resume=True)
        train_run(run, data)
    return path / "model"


def test_every_model_on_the_same_cases_and_once(data: Dataset, config: LaserConfig, tmp_path: Path) -> None:
    others = RunFolder.begin(tmp_path, config, data, tmp_path / "data", command=["laserrec", "demo"])
    results, cases = compare_with_others(data, others), data.cases("test")
    assert [result.evaluation.about["model"] for result in results] == MODELS
    for result in results:
        assert result.evaluation.users.tolist() == cases.users.tolist()
        assert result.evaluation.targets.tolist() == cases.targets.tolist()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    again = compare_with_others(data, others)
    assert [result.as_dict() for result in again] == [result.as_dict() for result in results]
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    counts, ranks = np.bincount(data.training_histories().values, minlength=10), []
    for history, target in zip(cases.histories, cases.targets, strict=True):
        unseen = [item for item in range(10) if item not in history]
        ranks.append(sum(counts[item] >= counts[target] for item in unseen))
    assert results[0].evaluation.ranks["filter_seen"].tolist() == ranks


def test_examples_show_what_was_not_seen(model: Path, data: Dataset) -> None:
    found = examples(data, Laser.load(model))
    assert [example.user for example in found] == ["u00", "u11"]
    for example in found:
        assert len(example.history) == 7
        assert example.following in FILMS
        shown = {item.title for item in example.found}
        assert len(shown) == 3  # of ten films, seven were seen
        assert not shown & set(example.history)


def test_a_new_film_is_looked_for_in_every_list(model: Path, data: Dataset) -> None:
    laser = Laser.load(model)
    found = introduce(data, laser, NEW)
    histories = {data.user_ids[user]: [data.item_ids[item] for item in row] for user, row in zip(*_tests(data), strict=True)}
    places = {user: 1 + [item.item_id for item in laser.recommend([history], k=11)[0]].index("new") for user, history in histories.items()}
    assert (found.audience, found.reached) == (12, 12)  # four films are left to each, so that all places count
    assert found.place == places[found.user] == min(places.values())
    assert list(found.history) == [laser.title(item) for item in histories[found.user]]
    assert (found.reason.title, found.reason.cold) == ("Alien Night", True)
    assert "new" not in {item.item_id for item in found.similar}


def _tests(data: Dataset) -> tuple[list[int], list[list[int]]]:
    cases = data.cases("test")
    return cases.users.tolist(), [list(row) for row in cases.histories]


@pytest.fixture
def shown(data: Dataset, config: LaserConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, and small data and settings for the command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "demo_data", lambda: data)
    monkeypatch.setattr(demo, "demo_config", lambda: config)
    monkeypatch.setattr(demo, "others_config", lambda config: config)
    monkeypatch.setattr(sys, "argv", ["laserrec", "demo"])
    return tmp_path


def command(capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    from laserrec.cli import main

    with pytest.raises(SystemExit) as end:
        main()
    told = capsys.readouterr()
    return int(end.value.code or 0), told.out, told.err


def test_the_story_then_the_comparison_which_may_be_skipped(
    shown: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:

        def press(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(demo, "compare_with_others", press)
        code, out, err = command(capsys)
    assert code == 0
    said = " ".join(err.split())
    assert re.search(r"Training a small Laser on MovieLens 100K \(12 people, 10 films; .*: \d.* on this machine\.", said)
    assert [line.split()[0] for line in err.splitlines() if " epoch " in line] == ["collaborative", "stage1", "stage2", "sasrec"]
    parts = (
        "User u00",
        "Why the first",
        "User u11",
        "typed as words",
        "A film that nobody has rated",
        "Ctrl-C skips",
        "Skipped.",
        "laserrec serve",
    )
    places = [out.index(part) for part in parts]
    assert places == sorted(places)
    assert "To go on with it: laserrec demo --out runs/demo\n" in out
    assert out.endswith("laserrec train --data data/shop --out runs/shop\n")
    code, out, err = command(capsys)
    assert code == 0
    assert [line.split()[0] for line in err.splitlines() if " epoch " in line] == ["sasrec"]  # nothing but the comparison's
    assert [name for name in [*MODELS, "Laser"] if f" {name} " not in out] == []
    assert "With seen items ranked too: Laser" in out
    assert (shown / "runs" / "demo" / "report.html").is_file()
    assert Evaluation.load(shown / "runs" / "demo" / "others" / "sasrec" / "ranks-test.parquet").about["model"] == "SASRec"


def test_without_the_packages_there_is_no_report(shown: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    code, out, _ = command(capsys)
    assert code == 0
    assert "No report was written. A report with charts needs the package 'plotly'" in out


def result(name: str, ranks: list[int]) -> Result:
    count = np.arange(len(ranks))
    both = dict.fromkeys(PROTOCOLS, np.array(ranks))
    return Result(Evaluation(count, count, count, both, {}, {"model": name}), 0.0, 0)


@pytest.mark.parametrize(
    ("laser", "rival", "words"),
    [
        ([1] * 60, [5] * 60, "Laser wins here: it is ahead of B (N@10 +0.6131,"),  # 1 - 1 / log2(6)
        ([5] * 60, [1] * 60, "Laser does not win here: B is ahead (N@10 -0.6131,"),
        ([1, 2, 3] * 20, [1, 3, 2] * 20, "Laser does not win here: it and B cannot be told apart (N@10 +0.0000,"),
    ],
)
def test_the_verdict_is_plain(laser: list[int], rival: list[int], words: str) -> None:
    verdict = Verdict.of([result("A", [99] * 60), result("B", rival), result("Laser", laser)], "full")
    assert verdict.rival == "B"
    assert verdict.text.startswith(words)


def test_settings_are_small_and_those_of_the_others_usual() -> None:
    small, usual = demo_config(), LaserConfig()
    assert small.llm.layers == 4
    others = others_config(small)
    assert (others.collaborative, others.fit_collaborative, others.llm) == (usual.collaborative, usual.fit_collaborative, small.llm)
