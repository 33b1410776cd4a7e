"""The demonstration on a dozen users and a language model of a few thousand weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from laserrec.config import LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.data.prepare import PrepareOptions, prepare
from laserrec.errors import InterruptedTraining
from laserrec.evaluation.metrics import PROTOCOLS, Evaluation
from laserrec.runs.demo import Demonstration, Verdict, demo_config, demonstrate
from laserrec.runs.folder import Result, RunFolder
from laserrec.system.progress import Observer
from laserrec.training.observers import EpochLog

FILMS = ("Heat", "Alien", "Fargo", "Big Night", "Sneakers", "Dr. Strangelove", "Babe", "Seven", "Clerks", "Brazil")
MODELS = [
    "Popularity",
    "Item neighbours",
    "Last-item text",
    "SASRec",
    "BERT4Rec",
    "SASRec (text + id)",
    "Ensemble of 5, neighbours and EASE",
    "Laser",
]


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
    return tiny.config(llm={"model": str(folder)}, collaborative={"width": 8, "max_history": 10}, **fits)


def begin(path: Path, data: Dataset, config: LaserConfig) -> RunFolder:
    return RunFolder.begin(path, config, data, path / "data", command=["laserrec", "demo"], resume=True)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _use_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASERREC_CACHE", str(cache))


@pytest.fixture(scope="module")
def done(
    data: Dataset, config: LaserConfig, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Demonstration, list[str]]:
    """A whole demonstration: its folder, what it found and what it said."""
    path, said = tmp_path_factory.mktemp("run"), list[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LASERREC_CACHE", str(cache))

        class Said(Observer):
            def log(self, text: str) -> None:
                said.append(text)

        return path, demonstrate(data, begin(path, data, config), [EpochLog(path), Said()]), said


def test_every_model_on_the_same_cases(done: tuple[Path, Demonstration, list[str]], data: Dataset) -> None:
    path, found, said = done
    assert [result.evaluation.about["model"] for result in found.results] == MODELS
    cases = data.cases("test")
    for result in found.results:
        assert result.evaluation.users.tolist() == cases.users.tolist()
        assert result.evaluation.targets.tolist() == cases.targets.tolist()
    assert [min(result.parameters, 2) for result in found.results] == [1, 0, 1, 2, 2, 2, 2, 2]
    beside = ["Popularity", "Item neighbours", "Last-item text", "SASRec", "BERT4Rec", "SASRec (text + id)", "Ensemble"]
    assert [line.partition(": ")[2] for line in said[:-1]] == beside
    assert said[-1].startswith("Laser: ")
    for folder in ("popularity", "item-knn", "last-text", "sasrec", "bert4rec", "sasrec-text-id", "ensemble"):
        assert Evaluation.load(path / folder / "ranks-test.parquet").about["fingerprint"] == data.fingerprint
    assert (path / "model" / "laser.safetensors").is_file()
    assert (path / "ranks-test.parquet").is_file()


def test_popularity_by_hand(done: tuple[Path, Demonstration, list[str]], data: Dataset) -> None:
    counts, cases = np.bincount(data.training_histories().values, minlength=10), data.cases("test")
    ranks = []
    for history, target in zip(cases.histories, cases.targets, strict=True):
        unseen = [item for item in range(10) if item not in history]
        ranks.append(sum(counts[item] >= counts[target] for item in unseen))
    assert done[1].results[0].evaluation.ranks["filter_seen"].tolist() == ranks


def test_examples_show_what_was_not_seen(done: tuple[Path, Demonstration, list[str]]) -> None:
    examples = done[1].examples
    assert [example.user for example in examples] == ["u00", "u05", "u11"]
    for example in examples:
        assert len(example.history) == 7
        assert example.following in FILMS
        shown = {item.title for item in example.found}
        assert len(shown) == 3  # of ten films, seven were seen
        assert not shown & set(example.history)


def test_results_on_disk(done: tuple[Path, Demonstration, list[str]]) -> None:
    path, found, _ = done
    kept = json.loads((path / "results.json").read_text())
    assert kept == json.loads(json.dumps(found.as_dict()))
    assert [result["model"] for result in kept["results"]] == MODELS
    assert [verdict["protocol"] for verdict in kept["verdicts"]] == list(PROTOCOLS)


def but_for_laser_s_seconds(found: Demonstration) -> dict[str, Any]:
    """What fuses the trained models is done again, and timed again, until a run is finished."""
    whole = found.as_dict()
    return whole | {"results": [row | {"seconds": row["model"] != "Laser" and row["seconds"]} for row in whole["results"]]}


def test_a_second_call_trains_nothing(done: tuple[Path, Demonstration, list[str]], data: Dataset, config: LaserConfig) -> None:
    path, found, _ = done

    class NoStep(Observer):
        """Fails at the first optimiser step."""

        name = ""

        def begin(self, name: str, steps: int, done: int, history: object = ()) -> None:
            self.name = name

        def on_step(self, step: int, scalars: object) -> None:
            assert self.name == "fusing", "trained again"

    observer = NoStep()
    again = demonstrate(data, begin(path, data, config), [observer])
    assert but_for_laser_s_seconds(again) == but_for_laser_s_seconds(found)
    finished = begin(path, data, config)
    finished.finish()
    assert demonstrate(data, begin(path, data, config), [observer]).as_dict() == again.as_dict()


def test_an_interrupted_one_goes_on_to_the_same_end(
    done: tuple[Path, Demonstration, list[str]], data: Dataset, config: LaserConfig, tmp_path: Path
) -> None:
    class Stop(Observer):
        """Presses Ctrl-C in stage 1."""

        name = ""

        def begin(self, name: str, steps: int, done: int, history: object = ()) -> None:
            self.name = name

        def on_step(self, step: int, scalars: object) -> None:
            if self.name == "stage1":
                raise KeyboardInterrupt

    observer = Stop()
    with pytest.raises(InterruptedTraining):
        demonstrate(data, begin(tmp_path, data, config), [observer])
    again = demonstrate(data, begin(tmp_path, data, config))
    for first, second in zip(done[1].results, again.results, strict=True):
        assert all((first.evaluation.ranks[protocol] == second.evaluation.ranks[protocol]).all() for protocol in PROTOCOLS)
    assert again.as_dict()["examples"] == done[1].as_dict()["examples"]


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


def test_settings_are_the_defaults() -> None:
    assert demo_config() == LaserConfig()
    assert demo_config(quick=True).stage1.epochs == 1
