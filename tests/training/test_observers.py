"""Who watches a fit: the log of epochs survives any stop; the bar shows the metric that decides."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from laserrec.training.observers import EpochLog, ProgressBar


def record(epoch: int) -> dict[str, Any]:
    train = {"loss": 2.5} if epoch else {}
    return {"epoch": epoch, "step": 3 * epoch, "seconds": 1.0, "train": train, "valid": {"mrr": 0.25, "ndcg@10": 0.5}, "metric": "mrr"}


def epochs(folder: Path) -> list[int]:
    return [json.loads(line)["epoch"] for line in (folder / "stage1" / "metrics.jsonl").read_text().splitlines()]


def test_a_line_an_epoch(tmp_path: Path) -> None:
    log = EpochLog(tmp_path)
    log.begin("stage1", 9, 0)
    assert list(tmp_path.iterdir()) == []
    for epoch in range(3):
        log.on_epoch(record(epoch))
        assert epochs(tmp_path) == list(range(epoch + 1))
    assert [path.name for path in (tmp_path / "stage1").iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("left", ["", '{"epoch": 0}\n{"epo', '{"epoch": 0}\n{"epoch": 1}\n{"epoch": 2}\n', None])
def test_a_resumed_fit_writes_the_log_anew_from_its_history(tmp_path: Path, left: str | None) -> None:
    """Whatever a killed process left: a broken line, a line short, a line that no checkpoint has."""
    if left is not None:
        (tmp_path / "stage1").mkdir()
        (tmp_path / "stage1" / "metrics.jsonl").write_text(left)
    log = EpochLog(tmp_path)
    log.begin("stage1", 9, 4, [record(0), record(1)])
    assert epochs(tmp_path) == [0, 1]
    log.on_epoch(record(2))
    assert epochs(tmp_path) == [0, 1, 2]


def test_epoch_0_survives_a_stop_in_epoch_1(tmp_path: Path) -> None:
    log = EpochLog(tmp_path)
    log.begin("stage1", 9, 0, [record(0)])
    assert epochs(tmp_path) == [0]


def test_a_new_fit_begins_a_new_log(tmp_path: Path) -> None:
    (tmp_path / "stage1").mkdir()
    (tmp_path / "stage1" / "metrics.jsonl").write_text("of another fit")
    log = EpochLog(tmp_path)
    log.begin("stage1", 9, 0)
    log.on_epoch(record(0))
    assert epochs(tmp_path) == [0]


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_a_line_a_minute_and_one_at_the_end_with_the_metric_that_decides(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(seconds * place for place in range(9))
    monkeypatch.setattr("laserrec.training.observers.time.monotonic", lambda: next(clock))
    console = Console(file=io.StringIO(), width=100)
    bar = ProgressBar(console)
    bar.begin("stage1", 9, 0)
    bar.on_epoch(record(0))
    bar.on_epoch(record(1))
    bar.end()
    bar.begin("users", 9, 0)
    bar.end()  # what is no fit has no epochs
    first, last = "stage1  epoch   0  mrr 0.2500  1 s", "stage1  epoch   1  loss 2.500  mrr 0.2500  1 s"
    assert console.file.getvalue().splitlines() == ([first, last] if seconds else [last])  # type: ignore[attr-defined]
