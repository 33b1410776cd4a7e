from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import polars as pl
import pytest

from benchmarks.speed import data
from benchmarks.speed.data import bench_data, generate, run_laserrec, run_pandas
from laserrec.data.dataset import Dataset
from laserrec.errors import DataError, MissingExtraError


def test_the_log_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        generate(tmp_path / name, 2000)
    log = pl.read_csv(tmp_path / "a" / "interactions.csv")
    assert (tmp_path / "a" / "interactions.csv").read_bytes() == (tmp_path / "b" / "interactions.csv").read_bytes()
    assert log.height == 2000
    assert log["timestamp"].is_sorted()
    assert log.is_duplicated().sum() >= 20
    assert pl.read_csv(tmp_path / "a" / "items.csv").height == 20


def test_without_pandas_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = importlib.util.find_spec
    monkeypatch.setattr(data.importlib.util, "find_spec", lambda name: None if name == "pandas" else sound(name))
    with pytest.raises(MissingExtraError, match=r"pip install 'laserrec\[bench\]'"):
        bench_data(1000, 1)


def test_both_routes_write_the_same_tables(tmp_path: Path) -> None:
    pytest.importorskip("pandas", reason="the extra bench is not installed")
    pytest.importorskip("pyarrow", reason="the extra bench is not installed")
    generate(tmp_path, 20_000)
    kept = run_laserrec(tmp_path, tmp_path / "ours")
    ours = Dataset.load(tmp_path / "ours")
    assert kept[2] < 20_000
    for route in ("pandas", "pandas-pyarrow", "pandas-categories"):
        assert run_pandas(tmp_path, tmp_path / route, route) == kept
        theirs = pl.read_parquet(tmp_path / route / "interactions.parquet").with_columns(pl.exclude("timestamp").cast(pl.String))
        assert theirs.rows() == ours.interactions.with_columns(pl.col("split").cast(pl.String)).rows()
        assert pl.read_parquet(tmp_path / route / "items.parquet")["item_id"].to_list() == list(ours.item_ids)


def test_what_the_benchmark_tells(tmp_path: Path) -> None:
    pytest.importorskip("pandas", reason="the extra bench is not installed")
    pytest.importorskip("pyarrow", reason="the extra bench is not installed")
    progress: list[str] = []
    found = bench_data(5000, 1, progress.append)
    json.dumps(found)
    assert set(found["routes"]) == {"laserrec", "pandas", "pandas-pyarrow", "pandas-categories"}
    ours, theirs = (found["routes"][name]["seconds"]["median"] for name in ("laserrec", "pandas"))
    ratio, memory = found["targets"][0], found["targets"][-1]
    assert ratio["what"] == "laserrec / pandas"
    assert ratio["median"] == pytest.approx(theirs / ours)
    assert memory["median"] * 2**30 == pytest.approx(found["routes"]["laserrec"]["peak_bytes"])
    assert found["machine"]["cores"] >= 1
    assert all(route["peak_bytes"] > 2**20 for route in found["routes"].values())
    assert found["kept"]["interactions"] > 0
    assert set(found["floor"]) == {"read_csv", "hash_log", "hash_split", "write_parquet"}
    assert progress[0] == "writing a log of 5,000 events"
    with pytest.raises(DataError, match="1,000 rows"):
        bench_data(10, 1)


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pandas", reason="the extra bench is not installed")
    pytest.importorskip("pyarrow", reason="the extra bench is not installed")
    from benchmarks.speed.cli import main

    monkeypatch.setattr(sys, "argv", ["benchmarks.speed", "data", "--rows", "2000", "--repeats", "1"])
    with pytest.raises(SystemExit) as end:
        main()
    shown = capsys.readouterr().out
    assert not end.value.code
    assert "2,000 events read" in shown
    assert "laserrec / pandas-pyarrow" in shown
