"""The public class, plans and benchmarks on another device than the CPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import small_shop
import tiny
import torch

from benchmarks.speed.items import bench_items
from benchmarks.speed.rank import RankSetting, bench_rank
from benchmarks.speed.serve import bench_serve
from benchmarks.speed.synthetic_shop import Setting
from benchmarks.speed.train import bench_train
from laserrec import Laser
from laserrec.baselines.collection import baseline_named
from laserrec.config import LaserConfig
from laserrec.runs.baselines import measure_baseline
from laserrec.runs.estimate import estimate_run
from laserrec.runs.folder import RunFolder
from laserrec.system.devices import CPU

ONE = {"epochs": 1, "batch_size": 8}
HISTORIES = [["tent", "bag"], ["rope"]]


def config(llm: Path, **sections: Any) -> LaserConfig:  # noqa: ANN401 - settings of any type
    fits = {"fit_collaborative": ONE, "stage1": ONE, "stage2": {"epochs": 0}}
    return small_shop.config(llm, **{**fits, "collaborative": {"refits": ["both"]}, **sections})


@pytest.fixture
def llm(tmp_path: Path) -> Path:
    return small_shop.write_llm(tmp_path / "llm")


def answers(laser: Laser) -> dict[str, float]:
    found = laser.recommend(HISTORIES, 13, exclude_seen=False)
    return {f"{row}: {item.item_id}": item.score for row, items in enumerate(found) for item in items}


@pytest.mark.slow
def test_trained_there_and_served_here(elsewhere: torch.device, llm: Path, tmp_path: Path) -> None:
    data = small_shop.dataset()
    there = Laser.fit(data, config(llm), device=elsewhere)
    assert there.device == elsewhere
    assert there.evaluate(data).metrics().keys() == there.evaluate(data, "valid").metrics().keys()
    assert len(there.recommend_texts([["warm socks", "kite"]], 3)[0]) == 3
    there.save(tmp_path / "model")
    for device in ("cpu", elsewhere):
        again = Laser.load(tmp_path / "model", device=device)
        assert again.device == torch.device(device)
        assert answers(again) == pytest.approx(answers(there), abs=1e-3)
        again.add_items([{"item_id": "new", "title": "Ice axe"}])
        assert again.item_vectors().shape == (13, tiny.WIDTH)
        assert again.experts(HISTORIES) == there.experts(HISTORIES)
        scored = answers(again)
        for row, explained in enumerate(again.explain(HISTORIES, [["new", "tent"], ["kite"]])):
            for one in explained:
                assert one.terms.total == pytest.approx(scored[f"{row}: {one.item_id}"], abs=1e-3)
    assert elsewhere.type not in (tmp_path / "model" / "config.json").read_text() + (tmp_path / "model" / "laser.json").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["popularity", "item-knn", "last-text", "gru4rec", "ensemble"])
def test_baselines(elsewhere: torch.device, llm: Path, tmp_path: Path, name: str) -> None:
    data, settings = small_shop.dataset(), config(llm)
    found = []
    for device in (CPU, elsewhere):
        run = RunFolder.begin(tmp_path / device.type, settings, data, tmp_path, command=[])
        with run.work(device):
            found.append(measure_baseline(baseline_named(name), data, run, device=device)["test"].evaluation.metrics())
        assert json.loads((run.path / "run.json").read_text())["device"] == str(device)
    assert found[1] == pytest.approx(found[0], abs=0.05)


@pytest.mark.slow
def test_a_plan(elsewhere: torch.device, llm: Path, tmp_path: Path) -> None:
    plan = estimate_run(small_shop.dataset(), config(llm), tmp_path / "run", device=elsewhere)
    assert all(phase.at_most > 0 for phase in plan.phases if phase.name != "stage2")


SETTING = Setting(
    dtype="float32", catalogue=5, item_tokens=12, vary=0.5, history=3, prefix=2, users=3, prompts=2, batch=2, repeats=1, threads=1, side=32
)


@pytest.mark.slow
@pytest.mark.parametrize("bench", [bench_train, bench_items, lambda setting: bench_serve(setting, 1)])
def test_benchmarks(elsewhere: torch.device, llm: Path, bench: Callable[[Setting], Any]) -> None:
    found = bench(replace(SETTING, llm=str(llm), device=str(elsewhere))).as_dict()
    assert found["setting"]["device"] == str(elsewhere)
    alike = [value for name, value in found["details"].items() if name.startswith("smallest_cosine")]
    assert all(value == pytest.approx(1, abs=1e-4) for value in alike)


def test_ranking_benchmark(elsewhere: torch.device) -> None:
    setting = RankSetting(items=300, width=8, users=4, k=3, repeats=1, threads=1, side=32, device=str(elsewhere))
    assert bench_rank(setting).details["share_of_lists_equal_to_plain"] == 1
