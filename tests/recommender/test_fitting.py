"""`Laser.fit`: runs that are stopped and resumed, the refit that must earn its place, both prompt orders."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import small_shop
from safetensors import safe_open
from small_shop import RING, after
from torch import Tensor

from laserrec import Dataset, Laser
from laserrec.data.splits import SplitInfo
from laserrec.errors import AssetError, CheckpointError, DataError, InterruptedTraining
from laserrec.laser.text_first import TextFirst
from laserrec.system.progress import Observer

FITS = ("collaborative", "stage1", "stage2", "sasrec", "sasrec-text-id")


class Watcher(Observer):
    """Notes which fit makes how many steps, and presses Ctrl-C in one of them."""

    def __init__(self, stop_in: str | None = None) -> None:
        self.stop_in, self.steps, self.name = stop_in, dict.fromkeys(FITS, 0), ""
        self.open = 0

    def begin(self, name: str, steps: int, done: int, history: object = ()) -> None:
        self.name, self.open = name, self.open + 1

    def on_step(self, step: int, scalars: Mapping[str, float]) -> None:
        if self.name in FITS:
            self.steps[self.name] += 1
        if self.name == self.stop_in and step == 2:
            signal.raise_signal(signal.SIGINT)

    def end(self) -> None:
        self.open -= 1


def tensors(laser: Laser, folder: Path) -> dict[str, bytes]:
    """Every weight of a model, as saved."""
    laser.save(folder)
    return {file.name: file.read_bytes() for file in folder.glob("*.safetensors")}


@pytest.mark.parametrize("fit", FITS)
def test_stopped_in_any_fit_and_resumed_it_is_the_same_model(trained: Laser, data: Dataset, llm: Path, tmp_path: Path, fit: str) -> None:
    config, watcher, run = small_shop.config(llm), Watcher(fit), tmp_path / "run"
    with pytest.raises(InterruptedTraining, match=fit):
        Laser.fit(data, config, folder=run, observers=[watcher])
    assert watcher.open == 0
    assert watcher.steps[fit] == 2
    again = Watcher()
    laser = Laser.fit(data, config, folder=run, observers=[again])
    place = FITS.index(fit)
    assert [again.steps[name] for name in FITS[:place]] == [0] * place
    whole = {"collaborative": 6, "stage1": 6, "stage2": 3, "sasrec": 6, "sasrec-text-id": 6}
    assert {name: watcher.steps[name] + again.steps[name] for name in FITS} == whole
    assert tensors(laser, tmp_path / "resumed") == tensors(trained, tmp_path / "whole")


def test_a_finished_run_is_loaded_not_trained(trained: Laser, data: Dataset, llm: Path, tmp_path: Path) -> None:
    config = small_shop.config(llm)
    Laser.fit(data, config, folder=tmp_path / "run")
    watcher = Watcher()
    laser = Laser.fit(data, config, folder=tmp_path / "run", observers=[watcher])
    assert sum(watcher.steps.values()) == 0
    assert tensors(laser, tmp_path / "again") == tensors(trained, tmp_path / "whole")


def test_the_same_call_with_a_folder_goes_on(
    trained: Laser, data: Dataset, llm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, watchers = small_shop.config(llm), [Watcher("stage1"), Watcher()]
    waiting = iter(watchers)
    monkeypatch.setattr("laserrec.recommender.bar_on_terminal", lambda: [next(waiting)])
    with pytest.raises(InterruptedTraining, match="stage1: stopped after step 2"):
        Laser.fit(data, config, folder=tmp_path / "run")
    laser = Laser.fit(data, config, folder=str(tmp_path / "run"))
    assert [watcher.steps["collaborative"] for watcher in watchers] == [6, 0]
    assert [watcher.steps["stage1"] for watcher in watchers] == [2, 4]
    assert tensors(laser, tmp_path / "resumed") == tensors(trained, tmp_path / "whole")


def test_a_folder_of_other_settings_or_data_and_one_too_many_is_refused(data: Dataset, llm: Path, tmp_path: Path) -> None:
    config = small_shop.config(llm, stage1={"epochs": 0}, stage2={"epochs": 0}, collaborative={"refits": []})
    Laser.fit(data, config, folder=tmp_path)
    with pytest.raises(CheckpointError, match="other settings or data"):
        Laser.fit(data, config.model_copy(update={"seed": 1}), folder=tmp_path)
    with pytest.raises(CheckpointError, match="other settings or data"):
        Laser.fit(small_shop.dataset(users=10), config, folder=tmp_path)
    with pytest.raises(CheckpointError, match=r"would be overwritten\. Go on from it with resume=True"):
        Laser.fit(data, config, folder=tmp_path, resume=False)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_progress_bar_on_a_terminal_alone(
    data: Dataset, llm: Path, terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    config = small_shop.config(llm, stage1={"epochs": 0}, stage2={"epochs": 0}, collaborative={"refits": []})
    capsys.readouterr()
    Laser.fit(data, config)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert ("collaborative  epoch   2" in shown.err) == terminal


def test_a_run_of_other_settings_or_data_is_not_resumed(data: Dataset, llm: Path, tmp_path: Path) -> None:
    config = small_shop.config(llm)
    with pytest.raises(InterruptedTraining):
        Laser.fit(data, config, folder=tmp_path, observers=[Watcher("stage1")])
    with pytest.raises(CheckpointError, match=r"stage1.*other settings or data"):
        Laser.fit(data, small_shop.config(llm, score={"temperature": 0.5}), folder=tmp_path)
    with pytest.raises(CheckpointError, match=r"collaborative.*other settings or data"):
        Laser.fit(small_shop.dataset(users=10), config, folder=tmp_path)


def test_without_a_folder_nothing_is_left_behind(data: Dataset, llm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    Laser.fit(data, small_shop.config(llm, collaborative={"refits": []}, stage1={"epochs": 0}, stage2={"epochs": 0}))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_trained_on_is_refused(data: Dataset, tmp_path: Path, llm: Path) -> None:
    with pytest.raises(AssetError, match="Cannot load the language model 'no/such folder'"):
        Laser.fit(data, small_shop.config("no/such folder"))
    without_valid = data.interactions.filter(pl.col("split") != "valid")
    with pytest.raises(DataError, match="no validation case"):
        Laser.fit(Dataset.build("shop", data.items, without_valid, data.split), small_shop.config(llm))


# --- the refit ---


def shop_of(histories: list[list[str]], items: pl.DataFrame) -> Dataset:
    """Each history's last event tests, the one before validates."""
    rows = [
        (f"user-{user:02}", item_id, step, "train" if step < len(history) - 2 else ("valid", "test")[step - len(history) + 2])
        for user, history in enumerate(histories)
        for step, item_id in enumerate(history)
    ]
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64, "split": pl.Enum(["train", "valid", "test"])}
    return Dataset.build("shop", items, pl.DataFrame(rows, schema=schema, orient="row"), SplitInfo("leave-one-out", {}))


def fitted(data: Dataset, llm: Path, folder: Path, *, hold_out: int, refits: list[str]) -> tuple[Laser, bool]:
    """Train the sequential recommenders alone; return the model and whether another one than the first gives the scores."""
    untrained = {"epochs": 0}
    learn = {"epochs": 25, "patience": 25, "learning_rate": 0.02}
    config = small_shop.config(
        llm,
        collaborative={"hold_out": hold_out, "refits": refits},
        score={"calibrate": False},
        fit_collaborative=learn,
        stage1=untrained,
        stage2=untrained,
    )
    laser = Laser.fit(data, config)
    laser.save(folder)
    with safe_open(folder / "collaborative.safetensors", framework="pt") as file:
        return laser, any(name.startswith("scorer.") for name in file.keys())  # noqa: SIM118 - not a mapping


def test_a_refit_that_validates_better_gives_the_scores(data: Dataset, llm: Path, tmp_path: Path) -> None:
    # The ring shows only in the two training events held out: before them everybody takes the kite, three times.
    ring = shop_of([["kite", "kite", "kite", *after(user, 4)] for user in range(11)], data.items)
    without, no_scorer = fitted(ring, llm, tmp_path / "without", hold_out=2, refits=[])
    laser, scorer = fitted(ring, llm, tmp_path / "with", hold_out=2, refits=["id", "id"])
    assert (no_scorer, scorer) == (False, True)
    before, now = without.evaluate(ring, "valid").metrics()["ndcg@10"], laser.evaluate(ring, "valid").metrics()["ndcg@10"]
    assert now > before + 0.2
    again = Laser.load(tmp_path / "with")
    assert again.recommend([["kite", "tent", "stove"]], 100) == laser.recommend([["kite", "tent", "stove"]], 100)
    assert laser.costs["collaborative"]["parameters"] == 3 * without.costs["collaborative"]["parameters"]


def test_a_refit_that_validates_worse_changes_nothing(data: Dataset, llm: Path, tmp_path: Path) -> None:
    # The event held out leads astray: everybody takes the kite, then goes on where they were.
    goods = [item_id for item_id in RING if item_id != "kite"]
    walks = [[goods[(user + step) % len(goods)] for step in range(6)] for user in range(len(goods))]
    astray = shop_of([[*walk[:4], "kite", *walk[4:]] for walk in walks], data.items)
    without, _ = fitted(astray, llm, tmp_path / "without", hold_out=1, refits=[])
    laser, scorer = fitted(astray, llm, tmp_path / "with", hold_out=1, refits=["id", "id"])
    assert not scorer
    assert (laser.evaluate(astray).ranks["full"] == without.evaluate(astray).ranks["full"]).all()
    assert laser.recommend([["tent", "stove"]], 100) == without.recommend([["tent", "stove"]], 100)


def test_stage_2_is_left_out_where_it_has_no_epochs(data: Dataset, llm: Path, tmp_path: Path) -> None:
    watcher = Watcher()
    config = small_shop.config(llm, collaborative={"refits": []}, stage1={"epochs": 0}, stage2={"epochs": 0})
    laser = Laser.fit(data, config, folder=tmp_path / "run", observers=[watcher])
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"collaborative", "stage1"}
    assert laser.item_vectors().any(axis=1).all()  # stage 1 makes them without an epoch, too


def test_choosing_what_is_fused_reads_each_history_once(data: Dataset, llm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, read = list[int](), TextFirst.read

    def counted(reader: TextFirst, items: Tensor, mask: Tensor, virtual: Tensor) -> Tensor:
        rows.append(len(items))
        return read(reader, items, mask, virtual)

    def read_in_fitting(refits: list[str], cold_start_bonus: float | None) -> int:
        rows.clear()
        none = {"epochs": 0}
        Laser.fit(
            data,
            small_shop.config(
                llm, collaborative={"refits": refits}, score={"cold_start_bonus": cold_start_bonus}, stage1=none, stage2=none
            ),
        )
        return sum(rows)

    monkeypatch.setattr(TextFirst, "read", counted)
    # Both together, ids alone, texts and ids alone: each has its scalars fitted and is validated, on the same cases.
    once = read_in_fitting([], 0.0) + len(data.cases("valid"))
    assert read_in_fitting(["id", "both"], 0.0) == once
    assert read_in_fitting(["id", "both"], None) == once  # what new items get is fitted on them, too


# --- prompt orders ---


@pytest.mark.parametrize(
    ("preset", "sections"),
    [
        ("default", {"prompt": {"order": "text_first", "instruction": "Buys:\n", "item_instruction": "Sold:\n"}}),
        ("default", {"prompt": {"order": "prefix_first", "line": "{number}. {text}\n", "instruction": "Buys:\n"}}),
        ("default", {"virtual": {"read_out": "last"}, "mformer": {"source": "linear"}}),
        ("default", {"virtual": {"prefix_length": 0, "read_out": "mean"}, "score": {"fuse_collaborative": False}}),
        ("paper", {"mformer": {"blocks": 2}, "stage1": {"epochs": 1}}),
    ],
    ids=["text first", "prefix first", "last, linear", "no prefix, mean", "paper"],
)
def test_every_kind_of_model_recommends_grows_and_comes_back(
    data: Dataset, llm: Path, tmp_path: Path, preset: str, sections: dict[str, dict[str, Any]]
) -> None:
    laser = Laser.fit(data, small_shop.config(llm, preset, **sections))
    assert set(laser.evaluate(data).ranks["full"]) <= set(range(1, 13))
    texts = laser.recommend_texts([["Sailing boat", "Anchor"]], 100)
    laser.add_items([{"item_id": "new", "title": "Canoe"}])
    histories = [["tent", "new"], after(0, 9), ["never-bought"]]
    found = laser.recommend(histories, 100)
    laser.save(tmp_path / "model")
    again = Laser.load(tmp_path / "model")
    for row, expected in zip(again.recommend(histories, 100), found, strict=True):
        assert {item.item_id: item.score for item in row} == pytest.approx({item.item_id: item.score for item in expected}, abs=1e-4)
    (found_again,) = again.recommend_texts([["Sailing boat", "Anchor"]], 100)
    old = {item.item_id: item.score for item in found_again if item.item_id != "new"}
    assert old == pytest.approx({item.item_id: item.score for item in texts[0]}, abs=1e-4)


@pytest.mark.parametrize(("score", "expected"), [({"cold_start_bonus": 0.7}, 0.7), ({"calibrate": False}, 0.0)])
def test_what_new_items_get_is_what_the_settings_say(
    data: Dataset, llm: Path, tmp_path: Path, score: dict[str, Any], expected: float
) -> None:
    laser = Laser.fit(data, small_shop.config(llm, score=score))
    assert laser.cold_start_bonus == pytest.approx(expected)
    laser.save(tmp_path / "model")
    assert Laser.load(tmp_path / "model").cold_start_bonus == pytest.approx(expected)


def test_what_new_items_get_is_fitted_by_default(trained: Laser) -> None:
    assert trained.cold_start_bonus != 0
    assert abs(trained.cold_start_bonus) < 100


def test_a_start_brings_no_bonus_along(saved: Path, data: Dataset, llm: Path) -> None:
    laser = Laser.fit(data, small_shop.config(llm, score={"cold_start_bonus": 0.7}).model_copy(update={"start": str(saved)}))
    assert laser.cold_start_bonus == pytest.approx(0.7)
