"""The search over settings, on a tiny shop: what it starts from, what it keeps, how it goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest

from laserrec.baselines.collection import TUNABLE
from laserrec.baselines.fdsa import FDSA
from laserrec.baselines.sasrec import SASREC
from laserrec.baselines.sequential import SequentialBaseline
from laserrec.config import LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.errors import CheckpointError, ConfigError, InterruptedTraining, NonFiniteLossError, TrainingError
from laserrec.runs.tuning import study as module
from laserrec.runs.tuning.space import Between, OneOf, space_of
from laserrec.runs.tuning.study import Search, searching
from laserrec.system.cache import texts_folder
from laserrec.system.progress import Observer

pytest.importorskip("optuna")


class Stopper(Observer):
    """Presses Ctrl-C at the first step of a fit."""

    def on_step(self, step: int, scalars: Mapping[str, float]) -> None:
        raise InterruptedTraining("stop")


def test_a_space_is_widened_by_what_is_given() -> None:
    assert Between(1e-3, 1e-2).including(0.5) == Between(1e-3, 0.5)
    assert OneOf((1, 2)).including(7) == OneOf([1, 2, 7])
    assert OneOf((1, 2)).including(2) == OneOf([1, 2])


def test_nothing_that_makes_another_model_is_searched() -> None:
    for model in (None, *TUNABLE):
        assert not {"collaborative.model", "collaborative.items", "collaborative.text_experts"} & space_of(model).keys()


def test_a_search_starts_from_what_is_given_and_goes_on(data: Dataset, config: LaserConfig, tmp_path: Path) -> None:
    search = Search(SASREC, data, config, tmp_path)
    with pytest.raises(TrainingError, match="No trial of sasrec was completed"):
        search.found  # noqa: B018 - reading it is the test
    search.step()
    first = search.found
    assert first.settings["collaborative.width"] == config.collaborative.width == 8
    assert (first.trials, first.score) == (1, first.defaults)
    again = Search(SASREC, data, config, tmp_path)
    assert again.trials == 1
    again.step()
    assert again.found.trials == 2
    given, drawn = again.found.tried
    assert given.settings == first.settings != drawn.settings
    assert (given.score, given.pruned, drawn.pruned) == (first.score, False, False)
    assert 0 < given.epochs <= config.fit_collaborative.epochs
    assert given.seconds > 0
    assert again.found.score == max(given.score, drawn.score)
    assert again.found.defaults == first.defaults
    assert again.found.score >= first.score
    best = LaserConfig.load(tmp_path / "sasrec" / "best.json")
    assert best.collaborative.width == again.found.settings["collaborative.width"]
    assert not (tmp_path / "sasrec" / "trial").exists()


def test_what_reads_texts_is_searched_like_what_does_not(data: Dataset, config: LaserConfig, tmp_path: Path) -> None:
    assert space_of(FDSA) == space_of(SASREC) != space_of(None)
    search = Search(FDSA, data, config, tmp_path)
    search.step()
    assert (search.found.trials, search.found.score) == (1, search.found.defaults)
    best = LaserConfig.load(tmp_path / "fdsa" / "best.json")
    assert (best.collaborative.model, best.collaborative.items) == ("fdsa", "id")
    assert list(texts_folder().glob("vectors-*.safetensors"))


def test_a_search_goes_on_as_if_it_had_not_been_stopped(data: Dataset, config: LaserConfig, tmp_path: Path) -> None:
    whole = Search(SASREC, data, config, tmp_path / "whole")
    for _ in range(4):
        whole.step()
    for _ in range(4):
        Search(SASREC, data, config, tmp_path / "parts").step()
    ours, theirs = (
        [trial.params for trial in search._study.trials] for search in (whole, Search(SASREC, data, config, tmp_path / "parts"))
    )
    assert ours == theirs
    assert len({str(params) for params in ours}) == 4
    with pytest.raises(ConfigError, match="departs from other settings"):
        Search(SASREC, data, config.override(["fit_collaborative.epochs=9"]), tmp_path / "parts")
    retitled = Dataset.build(data.name, data.items.with_columns(title=pl.lit("x")), data.interactions, data.split)
    with pytest.raises(ConfigError, match="from other texts of the items"):
        Search(SASREC, retitled, config, tmp_path / "parts")


def test_one_process_at_a_time_makes_trials(data: Dataset, config: LaserConfig, tmp_path: Path) -> None:
    """It takes trials under way for those of a process that was killed, and clears away their checkpoints."""
    with searching(SASREC, data, config, tmp_path), pytest.raises(CheckpointError, match="by another process"):
        searching(SASREC, data, config, tmp_path).__enter__()
    with searching(SASREC, data, config, tmp_path) as search:
        assert search.trials == 0


def test_an_interrupted_trial_does_not_count(data: Dataset, config: LaserConfig, tmp_path: Path) -> None:
    with pytest.raises(InterruptedTraining):
        Search(SASREC, data, config, tmp_path).step([Stopper()])
    search = Search(SASREC, data, config, tmp_path)
    assert search.trials == 0
    search.step()
    assert search.found.settings["collaborative.width"] == 8  # what is given still comes first


def test_a_loss_that_explodes_is_a_trial_that_lost(
    data: Dataset, config: LaserConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Search(SASREC, data, config, tmp_path)
    search.step()

    def explode(*_: object, **__: object) -> None:
        raise NonFiniteLossError("NaN")

    monkeypatch.setattr(module, "run_stages", explode)
    search.step()
    assert (search.found.trials, search.found.pruned) == (2, 1)


def test_laser_shares_its_recommender_between_trials(data: Dataset, config: LaserConfig, tmp_path: Path) -> None:
    search = Search(None, data, config, tmp_path)
    search.step()
    shared = {path.name for path in (tmp_path / "laser" / "shared").iterdir()}
    assert shared == {"collaborative"}
    kept = tmp_path / "laser" / "shared" / "collaborative" / "checkpoint.safetensors"
    before = kept.stat().st_mtime_ns
    search.step()
    assert kept.stat().st_mtime_ns == before
    best = json.loads((tmp_path / "laser" / "best.json").read_text())
    assert best["collaborative"]["refits"] == list(config.collaborative.refits)
    assert best["mformer"]["experts"] == search.found.settings["mformer.experts"]


@pytest.mark.parametrize(
    ("model", "fit", "epochs", "first"), [(None, "stage1", 6, 2), (None, "stage1", 1, 1), (SASREC, "fit_collaborative", 60, 10)]
)
def test_what_falls_behind_is_stopped_after_a_third_of_its_epochs(
    data: Dataset, config: LaserConfig, tmp_path: Path, model: SequentialBaseline | None, fit: str, epochs: int, first: int
) -> None:
    study = Search(model, data, config.override([f"{fit}.epochs={epochs}"]), tmp_path)._study
    for _ in range(2):  # none of them may be stopped
        good = study.ask()
        for epoch in range(epochs + 1):
            good.report(1.0, epoch)
            assert not good.should_prune()
        study.tell(good, 1.0)
    behind = study.ask()
    stopped = []
    for epoch in range(epochs + 1):
        behind.report(0.5, epoch)
        stopped += [epoch] if behind.should_prune() else []
    assert stopped[0] == first
