"""`laserrec train`: what it writes, what it refuses, and how it goes on after being stopped."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

import laserrec as package
from laserrec.runs.folder import RunFolder

Run = Callable[..., tuple[int, str, str]]


def test_a_run_folder_says_what_was_done(shop: Path) -> None:
    about = json.loads((shop / "run" / "run.json").read_text())
    manifest = json.loads((shop / "data" / "manifest.json").read_text())
    assert about["data"]["fingerprint"] == manifest["fingerprint"]
    assert (about["data"]["name"], about["data"]["path"]) == ("shop", "../data")
    assert Path(about["data"]["absolute"]).is_absolute()
    assert about["version"] == package.__version__
    assert about["device"] == "cpu"
    assert about["config"] == json.loads((shop / "run" / "config.json").read_text())
    assert about["config"]["stage1"]["epochs"] == 2
    assert about["seconds"] > 0
    assert about["started"] <= about["finished"]
    names = {path.name for path in (shop / "run").iterdir()}
    assert names == {
        "run.json",
        "config.json",
        "collaborative",
        "stage1",
        "stage2",
        "sasrec",
        "sasrec-text-id",
        "model",
        "ranks-valid.parquet",
        "ranks-test.parquet",
    }


def test_epochs_are_logged(shop: Path) -> None:
    lines = (shop / "run" / "stage1" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1, 2]


def test_results_of_both_protocols_stand_apart(laserrec: Run) -> None:
    code, out, err = laserrec("train", "--out", "run", "--resume")
    assert code == 0
    assert "run is finished already" in err
    assert out.count("Laser, test") == 4  # of each protocol, how targets rank and what the lists are like
    assert out.index("seen items ranked too") < out.index("seen items left out")
    assert "laserrec recommend run --user anna" in out


def test_results_for_machines(laserrec: Run) -> None:
    code, out, _ = laserrec("train", "--out", "run", "--resume", "--json")
    valid, test = json.loads(out)["results"]
    assert (code, valid["split"], test["split"], test["cases"]) == (0, "valid", "test", 8)
    assert 0 < test["metrics"]["filter_seen"]["mrr"] <= 1
    assert test["parameters"] > 0


def test_an_occupied_folder_is_refused(laserrec: Run, shop: Path) -> None:
    before = (shop / "run" / "run.json").read_bytes()
    code, _, err = laserrec("train", "--data", "data", "--out", "run", "--config", "laser.toml")
    assert (code, err) == (
        1,
        "error: run exists and is not empty. Choose another folder, or continue the run in it. Options: --out, --resume.\n",
    )
    assert (shop / "run" / "run.json").read_bytes() == before
    (shop / "other").mkdir()
    (shop / "other" / "holiday.txt").touch()
    code, _, err = laserrec("train", "--data", "data", "--out", "other", "--config", "laser.toml", "--resume")
    assert code == 1
    assert "other is not a run: it holds no run.json" in err


def test_resuming_with_other_settings_is_refused(laserrec: Run) -> None:
    code, _, err = laserrec("train", "--out", "run", "--resume", "--config", "laser.toml", "--set", "stage1.epochs=5", "--seed", 3)
    assert code == 1
    assert "other settings: received seed = 3 (the run's: 0), stage1.epochs = 5 (the run's: 2)." in err


def test_resuming_with_other_data_is_refused(laserrec: Run, shop: Path) -> None:
    from laserrec.data.dataset import Dataset

    dataset = Dataset.load("data")
    fewer = dataset.interactions.filter(dataset.interactions["user_id"] != "anna")
    Dataset.build("few", dataset.items, fewer, dataset.split).save(shop / "few")
    code, _, err = laserrec("train", "--data", "few", "--out", "run", "--resume")
    assert code == 1
    assert "run was begun on 'shop'" in err
    assert "received 'few'" in err


@pytest.mark.parametrize("change", ["texts", "order"])
def test_resuming_with_other_texts_or_another_order_of_items_is_refused(laserrec: Run, shop: Path, change: str) -> None:
    """Neither is in the fingerprint, and both are in what is trained."""
    from laserrec.data.dataset import Dataset

    dataset = Dataset.load("data")
    items = dataset.items.reverse() if change == "order" else dataset.items.with_columns(title=dataset.items["title"] + " (new)")
    changed = Dataset.build("shop", items, dataset.interactions, dataset.split)
    assert changed.fingerprint == dataset.fingerprint
    changed.save(shop / "changed")
    code, _, err = laserrec("train", "--data", "changed", "--out", "run", "--resume")
    assert code == 1
    assert "run was begun with other texts, or another order, of the items of 'shop'" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "nowhere"], "error: nowhere is not a prepared dataset"),
        (["--data", "data", "--config", "absent.toml"], "error: Cannot read the settings in absent.toml"),
        (["--data", "data", "--set", "stage1.epoch=1"], "unknown setting 'stage1.epoch'; allowed here are"),
        (["--data", "data", "--set", "stage1.epochs=-1"], "stage1.epochs: Input should be greater than or equal to 0 (received -1)"),
        (["--data", "data", "--set", "llm.model=absent/folder/llm"], "error: Cannot load the language model 'absent/folder/llm'"),
    ],
)
def test_mistakes_are_told_in_one_line(laserrec: Run, words: list[str], message: str) -> None:
    code, out, err = laserrec("train", "--out", "new", *words)
    last = err.splitlines()[-1]
    assert (code, out) == (1, "")
    assert last.startswith("error: ")
    assert message in last


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "error: --data is needed"),
        (["--data", "data", "--config", "laser.toml", "--preset", "paper"], "error: --config and --preset exclude each other"),
        (["--data", "data", "--preset", "best"], "'best' is not one of 'default', 'paper'"),
        (["--data", "data", "--sed", "1"], "No such option"),
    ],
)
def test_wrong_command_lines_exit_with_2(laserrec: Run, shop: Path, words: list[str], message: str) -> None:
    code, out, err = laserrec("train", "--out", "new", *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not (shop / "new").exists()


def test_tensorboard(laserrec: Run, shop: Path) -> None:
    pytest.importorskip("tensorboard")
    fits = ("fit_collaborative", "stage1", "stage2")
    words = [word for fit in fits for word in ("--set", f"{fit}.epochs=1")]
    code, _, _ = laserrec("train", "--data", "data", "--out", "new", "--config", "laser.toml", "--tensorboard", *words)
    assert code == 0
    assert {path.parent.name for path in (shop / "new" / "tensorboard").rglob("events.*")} == {
        "collaborative",
        "stage1",
        "stage2",
        "sasrec",
        "sasrec-text-id",
    }


def stop_in_stage1(shop: Path, how: signal.Signals) -> subprocess.CompletedProcess[str]:
    """Start the training of `world` again as a process, and stop it once stage 1 has a checkpoint."""
    out = shop / "again"
    slow = ["--set", "stage1.epochs=40", "--set", "stage1.patience=40", "--set", "runtime.checkpoint_seconds=0"]
    words = ["train", "--data", "data", "--out", "again", "--config", "laser.toml", *slow]
    line = [sys.executable, "-c", "from laserrec.cli import main; main()", *words]
    alone = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(package.__file__).parents[1])}
    process = subprocess.Popen(line, cwd=shop, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=alone)
    try:
        deadline = time.monotonic() + 60
        while not (out / "stage1" / "checkpoint.safetensors").exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(how)
        shown, log = process.communicate(timeout=60)
    finally:
        process.kill()
    return subprocess.CompletedProcess(line, process.returncode, shown, log)


def test_ctrl_c_says_how_to_go_on(shop: Path, laserrec: Run) -> None:
    stopped = stop_in_stage1(shop, signal.SIGINT)
    assert stopped.returncode == 130, stopped.stderr
    assert stopped.stderr.splitlines()[-1] == "Stopped. What is done is kept; continue with: laserrec train --out again --resume"
    code, _, err = laserrec("recommend", "again", "--items", "item-1")
    assert code == 1
    assert "again holds no trained model yet. Resume it; it was begun with: laserrec train" in err
    assert json.loads((shop / "again" / "run.json").read_text())["seconds"] > 0


def test_a_run_keeps_the_number_of_threads_it_was_begun_with(shop: Path) -> None:
    run, own = RunFolder.open(shop / "run"), torch.get_num_threads()
    assert run.about["threads"] == own
    run.about["threads"] = 1
    with run.work():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == own
    for nonsense in (0, "two", None, 10**6):
        run.about["threads"] = nonsense
        with run.work():
            assert torch.get_num_threads() == own


# The killed process has one thread, the one that continues may have more.
def test_a_killed_run_ends_where_an_uninterrupted_one_does(shop: Path, laserrec: Run) -> None:
    assert stop_in_stage1(shop, signal.SIGKILL).returncode == -signal.SIGKILL
    # The run's own settings say 40 epochs; a short way to the same end is to compare both from here on.
    shutil.copytree(shop / "again", shop / "whole")
    shutil.rmtree(shop / "whole" / "stage1")
    for run in ("again", "whole"):
        assert laserrec("train", "--out", run, "--resume")[0] == 0
    first, second = (load_file(shop / run / "model" / "laser.safetensors") for run in ("again", "whole"))
    assert all(first[name].equal(second[name]) for name in first)


def test_several_seeds_are_runs_of_their_own_and_one_table(laserrec: Run, shop: Path) -> None:
    words = ("train", "--data", "data", "--out", "many", "--config", "laser.toml", "--set", "fit_collaborative.epochs=1", "--seeds", 2)
    code, out, err = laserrec(*words, "--seed", 3)
    assert code == 0, err
    assert sorted(path.name for path in (shop / "many").iterdir()) == ["seed-3", "seed-4"]
    assert [RunFolder.open(shop / "many" / name).config.seed for name in ("seed-3", "seed-4")] == [3, 4]
    # Two splits, two protocols, five metrics each, every digit there though the terminal has 80 columns.
    assert len(re.findall(r"\d\.\d{4} ± \d\.\d{4}", out)) == 4 * 5
    assert out.count("Laser") >= 4
    assert (
        "many holds a run for each of several seeds. Name one, such as many/seed-3." in laserrec("recommend", "many", "--user", "anna")[2]
    )
    shutil.rmtree(shop / "many" / "seed-4")
    code, _, err = laserrec("train", "--out", "many", "--seeds", 2, "--resume")  # what is not said again is as it was
    assert code == 0, err
    assert RunFolder.open(shop / "many" / "seed-4").config.fit_collaborative.epochs == 1
    shutil.rmtree(shop / "many" / "seed-3")
    code, _, err = laserrec(*words, "--seed", 3)
    assert "seed-4 exists and is not empty" in err  # before anything is trained
    assert not (shop / "many" / "seed-3").exists()
    code, out, _ = laserrec(*words, "--seed", 3, "--resume")
    assert code == 0
    code, out, _ = laserrec(*words, "--seed", 3, "--resume", "--json")
    found = json.loads(out)
    each = [RunFolder.open(shop / "many" / name).path / "ranks-test.parquet" for name in ("seed-3", "seed-4")]
    recalls = [(pl.read_parquet(path)["rank_full"] <= 10).mean() for path in each]
    shown = next(result for result in found["results"] if result["split"] == "test")["rows"]["full"]["figures"]["recall@10"]
    assert shown["mean"] == pytest.approx(sum(recalls) / 2)
    assert shown["deviation"] == pytest.approx(abs(recalls[0] - recalls[1]) / 2**0.5)
    assert laserrec(*words, "--plan")[0] == 2
