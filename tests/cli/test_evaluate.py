"""`laserrec evaluate`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

Run = Callable[..., tuple[int, str, str]]


def test_figures_follow_from_the_ranks(laserrec: Run, shop: Path) -> None:
    before = pl.read_parquet(shop / "run" / "ranks-test.parquet")
    (shop / "run" / "ranks-test.parquet").unlink()
    code, out, _ = laserrec("evaluate", "run", "--json", "-")
    ranks = pl.read_parquet(shop / "run" / "ranks-test.parquet")
    assert code == 0
    assert ranks.equals(before)
    shown = json.loads(out)
    assert shown["metrics"]["full"]["recall@5"] == pytest.approx((ranks["rank_full"] <= 5).mean())
    assert shown["metrics"]["filter_seen"]["mrr"] == pytest.approx((1 / ranks["rank_filter_seen"]).mean())


def test_tables_and_a_file(laserrec: Run, shop: Path) -> None:
    code, out, _ = laserrec("evaluate", "run", "--split", "valid", "--json", "figures/valid.json")
    assert code == 0
    assert "shop, valid, 8 users" in out
    assert json.loads((shop / "figures" / "valid.json").read_text())["split"] == "valid"


def test_a_dataset_that_moved_has_to_be_shown(laserrec: Run, shop: Path) -> None:
    about = json.loads((shop / "run" / "run.json").read_text())
    about["data"]["absolute"] = str(shop / "data")
    (shop / "run" / "run.json").write_text(json.dumps(about))
    (shop / "data").rename(shop / "moved")
    code, _, err = laserrec("evaluate", "run")
    assert code == 1
    assert f"error: The dataset of run is not at {shop / 'data'}. Say where it is. Options: --data" in err
    assert laserrec("evaluate", "run", "--data", "moved")[0] == 0


def test_another_split_is_refused(laserrec: Run, shop: Path) -> None:
    from laserrec.data.dataset import Dataset

    dataset = Dataset.load("data")
    fewer = dataset.interactions.filter(dataset.interactions["user_id"] != "anna")
    Dataset.build("few", dataset.items, fewer, dataset.split).save(shop / "few")
    code, _, err = laserrec("evaluate", "run", "--data", "few")
    assert code == 1
    assert "Figures of different splits are not compared" in err


def test_what_is_not_a_run(laserrec: Run, shop: Path) -> None:
    assert "error: nowhere does not exist. Give the folder that a training wrote." in laserrec("evaluate", "nowhere")[2]
    assert "error: data is not a run: it holds no run.json." in laserrec("evaluate", "data")[2]
    (shop / "run" / "run.json").write_text("{}")
    assert "does not describe a run of this version" in laserrec("evaluate", "run")[2]


def test_a_damaged_model_is_told(laserrec: Run, shop: Path) -> None:
    (shop / "run" / "model" / "laser.safetensors").write_bytes(b"\0" * 100)
    code, _, err = laserrec("evaluate", "run")
    assert code == 1
    assert "laser.safetensors differs from the sha256" in err.splitlines()[-1]
    shutil.rmtree(shop / "run" / "model")
    assert "run holds no trained model yet" in laserrec("evaluate", "run")[2]
