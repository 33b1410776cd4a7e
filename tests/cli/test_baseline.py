"""`laserrec baseline`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from laserrec.baseline_runs import BASELINES, RECIPES
from laserrec.cli.baseline import Name

Run = Callable[..., tuple[int, str, str]]
SMALL = ("--set", "collaborative.width=8", "--set", "fit_collaborative.epochs=2")


@pytest.fixture
def words(shop: Path) -> tuple[object, ...]:
    return ("--data", "data", "--out", "baselines", "--set", f"llm.model={shop / 'llm'}", "--set", "llm.dtype=float32", *SMALL)


def test_every_baseline_has_a_name_on_the_command_line() -> None:
    assert tuple(name.value for name in Name) == BASELINES
    assert set(RECIPES) < set(BASELINES)


def test_baselines_are_trained_once_and_compared(laserrec: Run, shop: Path, words: tuple[object, ...]) -> None:
    code, out, err = laserrec("baseline", *BASELINES, *words, "--json")
    assert code == 0, err
    results = json.loads(out)["results"]
    assert [(row["model"], row["part"]) for row in results] == [
        (model, part)
        for model in ("Popularity", "Last-item text", *(recipe.label for recipe in RECIPES.values()))
        for part in ("valid", "test")
    ]
    ranks = pl.read_parquet(shop / "baselines" / "sasrec-text-id" / "ranks-test.parquet")
    assert results[-1]["metrics"]["all"]["recall@5"] == pytest.approx((ranks["rank_all"] <= 5).mean())
    made = {path: path.stat().st_mtime_ns for path in (shop / "baselines").rglob("ranks-*.parquet")}
    code, out, _ = laserrec("baseline", "gru4rec", *words)
    assert code == 0
    assert "shop, valid and test, 8 users" in out
    assert made == {path: path.stat().st_mtime_ns for path in (shop / "baselines").rglob("ranks-*.parquet")}
    code, out, err = laserrec("compare", "run", "baselines/gru4rec", "baselines/popularity")
    assert code == 0, err
    assert "Laser against the others" in out
    assert "GRU4Rec" in out


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
