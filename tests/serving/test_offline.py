"""Offline figures of a served model: by hand, from ranks that are written here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from laserrec.evaluation.metrics import Evaluation
from laserrec.serving.offline import offline_figures


def write(path: Path, fingerprint: str = "f") -> None:
    """Ranks 1, 2 and 11 where every item is ranked, 1, 1 and 11 where seen ones are left out."""
    ranks = {"full": np.array([1, 2, 11]), "filter_seen": np.array([1, 1, 11])}
    places = np.arange(3)
    Evaluation(places, places, places + 1, ranks, about={"fingerprint": fingerprint}).save(path, ["a", "b", "c"], ["x", "y", "z"])


def test_figures_of_a_run(tmp_path: Path) -> None:
    write(tmp_path / "ranks-test.parquet")
    found = {(one.protocol, one.metric): one for one in offline_figures(str(tmp_path), "f")}
    assert {(one.split, one.cases) for one in found.values()} == {("test", 3)}
    assert {key: one.mean for key, one in found.items()} == pytest.approx(
        {
            ("full", "ndcg@10"): (1 + 1 / np.log2(3)) / 3,
            ("full", "recall@10"): 2 / 3,
            ("filter_seen", "ndcg@10"): 2 / 3,
            ("filter_seen", "recall@10"): 2 / 3,
        }
    )
    assert all(one.low < one.mean < one.high for one in found.values())


def test_figures_of_another_dataset_or_none_or_damaged_ones_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert offline_figures("hf:owner/name", "f") == offline_figures(str(tmp_path), "f") == []
    write(tmp_path / "ranks-valid.parquet", "other")
    (tmp_path / "ranks-test.parquet").write_bytes(b"PAR1")
    assert offline_figures(str(tmp_path), "f") == []
    assert "ranks-test.parquet" in caplog.text
