"""A paired test of two runs: hand-made ranks, whose differences are worked out here, and what cannot be compared; training's popularity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_shop import RING

from laserrec.config import LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.errors import ConfigError, DataError
from laserrec.evaluation.metrics import PROTOCOLS, Evaluation
from laserrec.runs.folder import RunFolder
from laserrec.runs.origin import paired_test, training_popularity
from laserrec.system.files import read_json, write_json


def run_with(path: Path, data: Dataset, ranks: list[int], fingerprint: str | None = None) -> str:
    """Begin a run and keep ranks in it; returns its model's folder."""
    run = RunFolder.begin(path, LaserConfig(), data, path, command=["test"])
    count = np.arange(len(ranks))
    about = {"model": "Laser", "dataset": data.name, "fingerprint": fingerprint or data.fingerprint, "part": "test"}
    kept = Evaluation(count, count, count + 1, dict.fromkeys(PROTOCOLS, np.array(ranks)), {}, about)
    kept.save(run.ranks("test"), data.user_ids, data.item_ids)
    (path / "model").mkdir()
    return str(path / "model")


def test_differences_are_the_new_one_minus_the_running_one(tmp_path: Path, data: Dataset) -> None:
    new = run_with(tmp_path / "new", data, [1, 3, 11, 2])
    old = run_with(tmp_path / "old", data, [3, 3, 1, 11])
    found = paired_test(new, str(tmp_path / "old"))
    # NDCG@10 by case: 1, 1/2, 0, 1/log2(3) less 1/2, 1/2, 1, 0; recall: 1, 1, 0, 1 less 1, 1, 1, 0.
    assert found["full", "ndcg@10"].difference == pytest.approx((0.5 + 0 - 1 + 1 / np.log2(3)) / 4)
    assert found["filter_seen", "recall@10"].difference == pytest.approx(0)
    assert found["full", "mrr"].difference == pytest.approx(((1 - 1 / 3) + 0 + (1 / 11 - 1) + (1 / 2 - 1 / 11)) / 4)
    assert all(one.low <= one.difference <= one.high and 0 < one.p_value <= 1 for one in found.values())
    back = paired_test(old, new)
    assert back["full", "mrr"].difference == pytest.approx(-found["full", "mrr"].difference)


def test_what_cannot_be_compared_says_why(tmp_path: Path, data: Dataset) -> None:
    one = run_with(tmp_path / "one", data, [1, 2])
    with pytest.raises(DataError, match=r"evaluated on different cases, of 'shop' \(.*…\) and 'shop' \(aaaaaaaaaaaa…\)"):
        paired_test(one, run_with(tmp_path / "two", data, [1, 2], "a" * 64))
    with pytest.raises(DataError, match="evaluated on different cases"):
        paired_test(one, run_with(tmp_path / "three", data, [1, 2, 3]))
    for source in (str(tmp_path), "hf:owner/name"):
        with pytest.raises(DataError, match="lies in no run's folder"):
            paired_test(one, source)
    write_json(tmp_path / "two" / "run.json", read_json(tmp_path / "two" / "run.json") | {"config": {"stage9": {}}})
    with pytest.raises(DataError, match="stage9"):
        paired_test(one, str(tmp_path / "two"))
    (tmp_path / "one" / "ranks-test.parquet").unlink()
    with pytest.raises(DataError, match="evaluate the run first"):
        paired_test(str(tmp_path / "three"), one)


def test_popularity_is_counted_over_training_events(tmp_path: Path, data: Dataset) -> None:
    data.save(tmp_path / "data")
    run = RunFolder.begin(tmp_path / "run", LaserConfig(), data, tmp_path / "data", command=["test"])
    found = training_popularity(str(run.path))
    # User u trains on the five items of the ring from the u-th on, so each item of the ring has five events, and the twelfth none.
    assert found == {item_id: 5 if item_id in RING else 0 for item_id in data.item_ids}
    with pytest.raises(DataError, match="lies in no run's folder"):
        training_popularity(str(tmp_path))
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="data"):
        training_popularity(str(run.path))
    write_json(run.path / "run.json", run.about | {"config": {"stage9": {}}})
    with pytest.raises(ConfigError, match="stage9"):
        training_popularity(str(run.path))
