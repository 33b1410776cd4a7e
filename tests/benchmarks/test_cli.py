"""Every benchmark runs through the command line on a tiny model and prints figures that agree with each other."""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed import serve
from benchmarks.speed.synthetic_shop import Setting, SyntheticShop

TINY = ["--item-tokens", 6, "--vary", 0.5, "--prefix", 2, "--repeats", 2, "--threads", 1, "--side", 32, "--dtype", "float32"]
COMMANDS: dict[str, list[object]] = {
    "train": [*TINY, "--catalogue", 6, "--history", 3, "--users", 3, "--prompts", 2, "--batch", 2],
    "items": [*TINY, "--catalogue", 6, "--batch", 2],
    "rank": ["--catalogue", 9000, "--width", 8, "--users", 3, "-k", 4, "--repeats", 2, "--threads", 1, "--side", 32],
    "serve": [*TINY, "--catalogue", 20, "--history", 3, "--requests", 8],
}
PLAIN = {
    "train": {"text_first, cached": "plain text_first", "prefix_first": "plain prefix_first"},
    "items": {"refresh, cached": "plain refresh", "cache, built and written": "plain forward"},
    "rank": {"products, exclude, best": "plain product"},
    "serve": {"Laser.recommend": "plain forward"},
}


@pytest.fixture
def bench(llm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:  # noqa: ANN401
    """A function that runs `python -m benchmarks.speed` and returns what it prints."""
    from benchmarks.speed.cli import main

    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "cache"))

    def run(name: str, *words: object) -> str:
        model = [] if name == "rank" else ["--llm", llm]
        monkeypatch.setattr(sys, "argv", ["benchmarks.speed", name, *map(str, [*COMMANDS[name], *model, *words])])
        with pytest.raises(SystemExit) as end:
            main()
        shown = capsys.readouterr()
        assert not end.value.code, shown.err
        return shown.out

    return run


@pytest.mark.parametrize("name", COMMANDS)
def test_json(bench: Any, name: str) -> None:  # noqa: ANN401
    found = json.loads(bench(name, "--json"))
    assert found["bench"] == name
    assert found["command"].startswith(f"python -m benchmarks.speed {name} ")
    assert found["machine"]["cores"] >= 1
    assert found["setting"]["threads"] == 1
    routes = {row["name"]: row for row in found["measurements"]}
    for row in routes.values():
        assert len(row["seconds"]) == 2
        assert 0 < row["low"] <= row["median"] <= row["high"]
        assert row["limit_share"] > 0
    for target in found["targets"]:
        # A percentile of all requests need not lie between those of the rounds.
        assert target["unit"] == "ms" or target["low"] <= target["median"] <= target["high"], target
    for ours, theirs in PLAIN[name].items():
        targets = [row for row in found["targets"] if row["what"].startswith(f"{ours} / {theirs}")]
        assert targets, (ours, theirs)
        for target in targets:
            other = next(row for row in routes.values() if target["what"].startswith(f"{ours} / {row['name']}"))
            counts = [row["median"] * statistics.median(row["seconds"]) for row in (routes[ours], other)]
            rounds = zip(routes[ours]["seconds"], other["seconds"], strict=True)
            ratios = [counts[0] / our / (counts[1] / their) * (100 if target["unit"] == "%" else 1) for our, their in rounds]
            assert target["median"] == pytest.approx(statistics.median(ratios))
    agreement = [value for key, value in found["details"].items() if key.startswith(("smallest_cosine", "share_of_lists_equal"))]
    assert agreement == pytest.approx([1.0] * len(agreement), abs=1e-5)
    assert name == "serve" or agreement


@pytest.mark.parametrize("weights", ["int8", "nf4", "fp8"])
def test_ours_with_quantised_weights_beside_the_plain_route_with_its_own(bench: Any, weights: str) -> None:  # noqa: ANN401
    details = {kept: json.loads(bench("train", "--json", "--weights", kept))["details"] for kept in ("full", weights)}
    sizes = [details[kept]["frozen_weights_bytes"] for kept in ("full", weights)]
    assert sizes[1] < sizes[0]
    for order in ("text_first", "prefix_first"):
        # Rounded weights: near, and not the same.
        assert 0.8 < details[weights][f"smallest_cosine_to_plain_{order}"] < 1 - 1e-5
    items = json.loads(bench("items", "--json", "--weights", weights))["details"]
    assert 0.8 < next(value for key, value in items.items() if key.startswith("smallest_cosine")) < 1 - 1e-5


def test_a_request_is_judged_by_the_weights_that_it_reads(setting: Setting) -> None:
    full, small = (serve._jobs(SyntheticShop(replace(setting, weights=weights))) for weights in ("full", "int8"))
    assert small[serve.PLAIN].read == full[serve.PLAIN].read == full[serve.REQUEST].read
    # Of 4 bytes a weight 1 is left, and 2 a row for its scale; the model has norms beside its matrices.
    shape = SyntheticShop(setting).shape
    saved = 3 * shape.layers * shape.matrices
    assert 0.8 * saved < full[serve.REQUEST].read - small[serve.REQUEST].read < saved


@pytest.mark.parametrize("name", ["rank", "serve"])
def test_table(bench: Any, name: str) -> None:  # noqa: ANN401
    shown = bench(name)
    assert shown.startswith(f"{name}: ")
    assert "Of the limit" in shown
    assert "Target" in shown
