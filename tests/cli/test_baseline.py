"""`laserrec baseline`."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from laserrec.baselines.base import Baseline, Fitted
from laserrec.baselines.bert4rec import BERT4REC
from laserrec.baselines.collection import BASELINES
from laserrec.baselines.fdsa import FDSA
from laserrec.baselines.gru4rec import GRU4REC, GRU4REC_TEXT
from laserrec.baselines.item_knn import ITEM_NEIGHBOURS
from laserrec.baselines.popularity import Popularity
from laserrec.baselines.sasrec import SASREC
from laserrec.baselines.unisrec import UNISREC
from laserrec.config import LaserConfig
from laserrec.data.dataset import Dataset, EvaluatedSplit
from laserrec.evaluation.metrics import Evaluation
from laserrec.runs.baselines import measure_baseline
from laserrec.runs.folder import EVALUATED_SPLITS, RunFolder
from laserrec.sequential.item_table import whiten
from laserrec.system.cache import texts_folder
from laserrec.system.files import read_tensors
from laserrec.training import fusing, neighbours
from laserrec.training.context import FitContext

Run = Callable[..., tuple[int, str, str]]
REFITS = ("sasrec", "sasrec-text-id", "sasrec-text-id-2", "sasrec-text-id-3", "sasrec-text-id-4")
UNTRAINED = ("Popularity", "Item neighbours", "Last-item text")
SMALL = ("--set", "collaborative.width=8", "--set", "fit_collaborative.epochs=2")


@pytest.fixture
def words(shop: Path) -> tuple[object, ...]:
    return ("--data", "data", "--out", "baselines", "--set", f"llm.model={shop / 'llm'}", "--set", "llm.dtype=float32", *SMALL)


def test_the_command_line_names_every_baseline(laserrec: Run) -> None:
    shown = " ".join(laserrec("baseline", "--help")[1].replace("│", " ").split())
    assert ", ".join(baseline.name for baseline in BASELINES) in shown


def test_baselines_are_trained_once_and_compared(laserrec: Run, shop: Path, words: tuple[object, ...]) -> None:
    code, out, err = laserrec("baseline", *(baseline.name for baseline in BASELINES), *words, "--json")
    assert code == 0, err
    results = json.loads(out)["results"]
    assert [(row["model"], row["split"]) for row in results] == [
        (model, split)
        for model in (*(baseline.label for baseline in BASELINES[:-2]), "Ensemble of 5, neighbours and EASE", "Ensemble + TF-IDF + EASE")
        for split in ("valid", "test")
    ]
    ranks = pl.read_parquet(shop / "baselines" / "sasrec-text-id" / "ranks-test.parquet")
    assert results[-5]["metrics"]["full"]["recall@5"] == pytest.approx((ranks["rank_full"] <= 5).mean())
    made = {path: path.stat().st_mtime_ns for path in (shop / "baselines").rglob("ranks-*.parquet")}
    code, out, _ = laserrec("baseline", "gru4rec", *words)
    assert code == 0
    assert "shop, valid and test, 8 users" in out
    assert made == {path: path.stat().st_mtime_ns for path in (shop / "baselines").rglob("ranks-*.parquet")}
    code, out, err = laserrec("compare", "run", "baselines/gru4rec", "baselines/popularity")
    assert code == 0, err
    assert "Laser against the others" in out
    assert "GRU4Rec" in out


def test_counting_and_blending_are_part_of_the_seconds(laserrec: Run, shop: Path, words: tuple[object, ...]) -> None:
    def slow(work: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: (time.sleep(0.3), work(*given))[1]

    with pytest.MonkeyPatch.context() as patch:
        for place in (fusing, neighbours):
            patch.setattr(place, "count_neighbours", slow(fusing.count_neighbours))
        patch.setattr(fusing, "blend", slow(fusing.blend))
        found = json.loads(laserrec("baseline", "popularity", "item-knn", "ensemble", *words, "--json")[1])["results"]
    seconds = {row["model"]: row["seconds"] for row in found if row["split"] == "test"}
    assert seconds["Popularity"] == 0
    assert seconds["Item neighbours"] >= 0.3
    records = [(shop / "baselines" / name / "metrics.jsonl").read_text().splitlines()[-1] for name in REFITS]
    fits = sum(json.loads(record)["seconds"] for record in records)
    assert seconds["Ensemble of 5, neighbours and EASE"] >= fits + 0.6


def test_the_peak_is_that_of_the_models_own_fit_and_evaluation(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, config = Dataset.load(shop / "data"), LaserConfig.load(shop / "laser.toml")
    run = RunFolder.begin(shop / "measured", config, data, shop / "data", command=[])
    fitted = Popularity.fit

    def large(baseline: Popularity, context: FitContext) -> Fitted:
        held = torch.ones(2**26)  # 256 MiB that are given back
        time.sleep(0.3)
        del held
        return fitted(baseline, context)

    def peaks(baseline: Baseline, *splits: EvaluatedSplit) -> set[int]:
        found = measure_baseline(baseline, data, run, splits=splits)
        return {each.evaluation.about["peak_memory"] for each in found.values()}

    with monkeypatch.context() as patch:
        patch.setattr(Popularity, "fit", large)
        (first,) = peaks(Popularity(), "test")
    (other,) = peaks(ITEM_NEIGHBOURS, *EVALUATED_SPLITS)
    assert 220 * 2**20 < first - other < 400 * 2**20
    assert other > 50 * 2**20  # libraries are in it
    # What is evaluated later has the same model's earlier fit in it.
    assert peaks(Popularity(), *EVALUATED_SPLITS) == {first}


def test_ranks_of_earlier_versions_tell_no_peak(shop: Path) -> None:
    data, config = Dataset.load(shop / "data"), LaserConfig.load(shop / "laser.toml")
    run = RunFolder.begin(shop / "measured", config, data, shop / "data", command=[])
    found = measure_baseline(ITEM_NEIGHBOURS, data, run)["test"].evaluation
    about = {name: value for name, value in found.about.items() if name != "peak_memory"}
    replace(found, about=about).save(shop / "measured" / "item-knn" / "ranks-test.parquet", data.user_ids, data.item_ids)
    both = measure_baseline(ITEM_NEIGHBOURS, data, run, splits=EVALUATED_SPLITS)
    assert "peak_memory" not in both["test"].evaluation.about
    assert both["valid"].evaluation.about["peak_memory"] > 0


def test_several_seeds_are_runs_of_their_own_and_a_row_each(laserrec: Run, shop: Path, words: tuple[object, ...]) -> None:
    many = ("baseline", "popularity", "gru4rec", "popularity", *words, "--seeds", 2, "--seed", 3)
    code, out, err = laserrec(*many)
    assert code == 0, err
    places = [shop / "baselines" / name for name in ("seed-3", "seed-4")]
    assert sorted((shop / "baselines").iterdir()) == places
    assert [RunFolder.open(place).config.seed for place in places] == [3, 4]
    # Two splits, two protocols, two models, five metrics each.
    assert len(re.findall(r"\d\.\d{4} ± \d\.\d{4}", out)) == 2 * 2 * 2 * 5
    assert (out.count("GRU4Rec"), out.count("all items ranked")) == (4, 4)
    made = {path: path.stat().st_mtime_ns for path in (shop / "baselines").rglob("ranks-*.parquet")}
    shown = json.loads(laserrec(*many, "--json")[1])
    assert made == {path: path.stat().st_mtime_ns for path in (shop / "baselines").rglob("ranks-*.parquet")}
    assert shown["runs"] == ["baselines/seed-3", "baselines/seed-4"]
    figures = {(found["split"], row["name"]): row["figures"] for found in shown["results"] for row in [found["rows"]["full"]]}
    recalls = [(pl.read_parquet(place / "gru4rec" / "ranks-test.parquet")["rank_full"] <= 10).mean() for place in places]
    assert figures["test", "GRU4Rec"]["recall@10"]["mean"] == pytest.approx(sum(recalls) / 2)
    mrr = [(1 / pl.read_parquet(place / "gru4rec" / "ranks-test.parquet")["rank_full"]).mean() for place in places]
    assert figures["test", "GRU4Rec"]["mrr"]["mean"] == pytest.approx(sum(mrr) / 2)
    assert figures["test", "GRU4Rec"]["mrr"]["deviation"] == pytest.approx(abs(mrr[0] - mrr[1]) / 2**0.5)
    assert figures["valid", "Popularity"]["recall@10"]["deviation"] == 0
    code, out, err = laserrec("compare", *(f"baselines/seed-{n}/{name}" for name in ("gru4rec", "popularity") for n in (3, 4)))
    assert code == 0, err
    assert "GRU4Rec against the others" in out


def test_seeds_that_are_refused_before_anything_is_trained(laserrec: Run, shop: Path, words: tuple[object, ...]) -> None:
    shutil.copytree(shop / "run", shop / "baselines" / "seed-1")
    code, _, err = laserrec("baseline", "popularity", *words, "--seeds", 2)
    assert (code, "seed-1 is a run of `laserrec train`" in err) == (2, True)
    assert not (shop / "baselines" / "seed-0").exists()
    shutil.rmtree(shop / "baselines" / "seed-1")
    assert laserrec("baseline", "popularity", *words, "--seed", 1, "--out", "baselines/seed-1")[0] == 0
    code, _, err = laserrec("baseline", "popularity", *words, "--seeds", 2, "--set", "collaborative.blocks=3")
    assert (code, "was begun with other settings: received collaborative.blocks = 3" in err) == (1, True)
    assert not list((shop / "baselines" / "seed-0").rglob("ranks-*.parquet"))
    assert laserrec("baseline", "popularity", *words, "--seeds", 1)[0] == 2


def test_what_is_refused(laserrec: Run, words: tuple[object, ...]) -> None:
    code, _, err = laserrec("baseline", "knn", *words)
    assert code == 2
    assert "'knn'" in err
    code, _, err = laserrec("baseline", "sasrec", "--data", "data", "--out", "run", *SMALL)
    assert code == 2
    assert "a folder of their own" in err
    assert laserrec("baseline", "popularity", *words)[0] == 0
    code, _, err = laserrec("baseline", "popularity", *words, "--seed", 1)
    assert code == 1
    assert "was begun with other settings: received seed = 1" in err


def test_settings_that_are_given_are_used_and_kept(laserrec: Run, shop: Path, words: tuple[object, ...]) -> None:
    own = ("--set", "collaborative.blocks=3", "--set", "collaborative.text_experts=4")
    assert laserrec("baseline", "gru4rec", "sasrec", *words, *own)[0] == 0
    for name, model, blocks in (("gru4rec", "gru4rec", 3), ("sasrec", "sasrec", 3)):
        settings = Evaluation.load(shop / "baselines" / name / "ranks-test.parquet").about["settings"]["collaborative"]
        assert (settings["model"], settings["blocks"], settings["text_experts"], settings["items"]) == (model, blocks, 1, "id")


def test_an_ensemble_is_described_by_the_cases_that_it_is_blended_by(laserrec: Run, shop: Path, words: tuple[object, ...]) -> None:
    small = ("--set", 'collaborative.refits=["id", "id"]', "--set", "stage2.validation_cases=5")
    assert laserrec("baseline", "ensemble", "sasrec", *words, *small)[0] == 0
    ensemble, sasrec = (
        Evaluation.load(shop / "baselines" / name / "ranks-test.parquet").about["settings"] for name in ("ensemble", "sasrec")
    )
    assert ensemble["stage2"] == {"validation_cases": 5}
    assert "stage2" not in sasrec


def test_what_another_model_needs_holds_where_nothing_is_given() -> None:
    settings, learning = BERT4REC.settings(LaserConfig())
    assert (settings.dropout, learning.learning_rate, learning.patience) == (0.3, 3e-3, 6)
    given = LaserConfig().override(["collaborative.dropout=0.2", "fit_collaborative.learning_rate=0.01"])
    settings, learning = BERT4REC.settings(given)
    assert (settings.dropout, learning.learning_rate, learning.patience) == (0.2, 0.01, 6)
    tuned = LaserConfig().override(["collaborative.model=bert4rec", "collaborative.dropout=0.5"])
    assert BERT4REC.settings(tuned)[0].dropout == 0.5


def test_what_the_runs_own_model_needs_is_not_passed_on() -> None:
    usual = LaserConfig().fit_collaborative
    paper = LaserConfig.preset("paper")
    assert SASREC.settings(paper)[1] == UNISREC.settings(paper)[1] == usual
    assert (usual.patience_steps, usual.epochs) == (160, 250)  # else all are stopped untrained where an epoch has a few steps
    for baseline in (GRU4REC, GRU4REC_TEXT, FDSA):
        assert baseline.settings(LaserConfig())[1] == baseline.settings(paper)[1] == usual
        assert baseline.settings(LaserConfig().override(["fit_collaborative.epochs=30"]))[1].epochs == 30
    assert BERT4REC.settings(paper)[1] == paper.fit_collaborative
    assert SASREC.settings(paper.override(["fit_collaborative.learning_rate=0.01"]))[1].learning_rate == 0.01
    recurrent = LaserConfig().override(["collaborative.model=gru4rec", "collaborative.blocks=1"])
    assert [baseline.settings(recurrent)[0].blocks for baseline in (GRU4REC, GRU4REC_TEXT, SASREC)] == [1, 1, 2]


def test_fdsa_reads_texts_beside_ids_and_takes_what_was_tuned(laserrec: Run, shop: Path, words: tuple[object, ...]) -> None:
    assert laserrec("baseline", "fdsa", "sasrec", *words)[0] == 0
    fdsa, sasrec = (Evaluation.load(shop / "baselines" / name / "ranks-test.parquet").about for name in ("fdsa", "sasrec"))
    assert (fdsa["model"], fdsa["settings"]["collaborative"]["model"], fdsa["settings"]["collaborative"]["items"]) == ("FDSA", "fdsa", "id")
    # Which language model read what is part of what it is; ids alone depend on neither.
    assert {"llm", "prompt"} <= fdsa["settings"].keys()
    assert not {"llm", "prompt"} & sasrec["settings"].keys()
    assert list(texts_folder().glob("vectors-*.safetensors"))
    tuned = LaserConfig().override(["collaborative.model=fdsa", "collaborative.dropout=0.3", "collaborative.blocks=1"])
    settings, _ = FDSA.settings(tuned)
    assert (settings.model, settings.dropout, settings.blocks, settings.reads_texts) == ("fdsa", 0.3, 1, True)


def test_fdsa_is_measured_with_the_parameters_that_training_set(shop: Path) -> None:
    data, config = Dataset.load(shop / "data"), LaserConfig.load(shop / "laser.toml")
    run = RunFolder.begin(shop / "measured", config, data, shop / "data", command=[])
    measured = measure_baseline(FDSA, data, run, splits=EVALUATED_SPLITS)
    assert {split: len(each.evaluation) for split, each in measured.items()} == {"valid": 8, "test": 8}
    items, width, positions, blocks = 10, 8, 10, 2
    (kept,) = texts_folder().glob("vectors-*.safetensors")
    texts = whiten(read_tensors(kept)[0]["vectors"]).shape[1]
    block = 4 * (width + 1) * width + (width + 1) * 4 * width + (4 * width + 1) * width + 4 * width
    stream = positions * width + 2 * width + blocks * block
    expected = items * width + (texts + 1) * width + 2 * stream + (2 * width + 1) * width + 1  # the last is the penalty
    assert measured["test"].parameters == expected


def test_a_dataset_without_cases_is_refused(laserrec: Run, shop: Path, words: tuple[object, ...]) -> None:
    data = Dataset.load(shop / "data")
    train = data.interactions.filter(pl.col("split") == "train")
    Dataset.build("shop", data.items, train, data.split).save(shop / "caseless")
    code, _, err = laserrec("baseline", "popularity", *words, "--data", "caseless", "--out", "nowhere")
    assert code == 1
    assert "has no case to evaluate on valid or test" in err
