"""What a report is made of: expected values by hand, or from scikit-learn."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from laserrec.baselines.collection import DEMONSTRATED
from laserrec.comparison.compare import compare_runs
from laserrec.data.dataset import Dataset
from laserrec.errors import CheckpointError, DataError
from laserrec.evaluation.metrics import Evaluation
from laserrec.report.fits import read_fits
from laserrec.report.gather import Report, gather
from laserrec.report.population import Histogram
from laserrec.runs.folder import RunFolder


@pytest.fixture(scope="module")
def report(demonstrated: Path) -> Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LASERREC_CACHE", str(demonstrated / "cache"))
        return gather(RunFolder.open(demonstrated / "run"))


def test_bars_begin_and_end_where_counts_do() -> None:
    found = Histogram.of(np.array([2, 3, 4, 4, 7, 120]))
    assert found.labels[:4] == ["2", "3–4", "5–6", "7–9"]
    assert found.labels[-1] == "100–149"
    assert list(found.sizes) == [1, 3, 0, 1, 0, 0, 0, 0, 0, 0, 1]
    assert Histogram.of(np.array([0, 0, 1])) == Histogram(["0", "1"], [2, 1])
    assert Histogram.of(np.array([700_000])).labels == ["700,000–999,999"]
    assert Histogram.of(np.empty(0, np.int64)) == Histogram([], [])


def test_fits_in_order_with_the_epoch_that_was_kept(report: Report, demonstrated: Path) -> None:
    names = [fit.name for fit in report.fits]
    assert names[:4] == ["collaborative", "stage1", "stage2", "sasrec"]
    assert names[3:] == sorted(names[3:])
    assert {f"{name}/metrics.jsonl" for name in names} == {
        path.relative_to(demonstrated / "run").as_posix() for path in demonstrated.glob("run/*/metrics.jsonl")
    }
    stage = report.fits[1]
    lines = [json.loads(line) for line in (demonstrated / "run" / "stage1" / "metrics.jsonl").read_text().splitlines()]
    assert [epoch.loss for epoch in stage.epochs] == [None, *(line["train"]["loss"] for line in lines[1:])]
    assert stage.best.valid["ndcg@10"] == max(line["valid"]["ndcg@10"] for line in lines)
    assert [dict(epoch.train) for epoch in stage.epochs] == [line["train"] for line in lines]


@pytest.mark.parametrize("text", ["", "{", "[]\n", '{"epoch": 0}\n'])
def test_a_damaged_log_is_told(text: str, demonstrated: Path, tmp_path: Path) -> None:
    (tmp_path / "stage1").mkdir()
    (tmp_path / "stage1" / "metrics.jsonl").write_text(text)
    run = RunFolder.open(demonstrated / "run")
    with pytest.raises(CheckpointError, match="is not a log of epochs"):
        read_fits(RunFolder(tmp_path, run.config, run.about))


def test_figures_are_those_of_the_comparison(report: Report, demonstrated: Path) -> None:
    run = demonstrated / "run"
    expected = compare_runs([run, *(run / name for name in sorted(baseline.name for baseline in DEMONSTRATED))])
    assert report.compared.as_dict() == expected.as_dict()


def test_others_stand_beside_the_run_and_seeds_are_one_model(copied: Path, seeded: Path) -> None:
    run, sasrec = copied / "run", copied / "elsewhere" / "sasrec"
    shutil.copytree(run / "sasrec", sasrec)
    shutil.copy(run / "run.json", sasrec.parent)
    below = [run / name for name in sorted(baseline.name for baseline in DEMONSTRATED)]
    found = gather(RunFolder.open(run), others=[seeded, sasrec, run / "popularity"])
    named = [run, seeded, sasrec, run / "popularity", *(path for path in below if path.name != "popularity")]
    assert found.compared.as_dict() == compare_runs(named).as_dict()
    first, second, *_ = found.compared.tables[0].rows
    assert (first.name, first.seeds, second.paths) == ("Laser", 2, [str(sasrec)])
    # What is not of figures is of the run itself: the seed's ranks are all of ten.
    assert {example.rank for example in found.examples} != {10}
    assert first.figures["mrr"].mean == pytest.approx((Evaluation.load(run / "ranks-test.parquet").metrics()["mrr"] + 0.1) / 2)


def test_a_run_of_another_split_does_not_stand_beside(copied: Path, seeded: Path) -> None:
    ranks, data = seeded / "ranks-test.parquet", Dataset.load(copied / "data")
    found = Evaluation.load(ranks)
    replace(found, about={**found.about, "fingerprint": "f" * 64}).save(ranks, data.user_ids, data.item_ids)
    with pytest.raises(DataError, match="Figures of different splits are not comparable"):
        gather(RunFolder.open(copied / "run"), others=[seeded])


def test_examples_are_lists_of_unseen_items(report: Report) -> None:
    assert len(report.examples) == 8
    for example in report.examples:
        shown = [item.item_id for item in example.found]
        assert len(shown) == 4  # of ten items, six were seen
        assert shown.index(example.target) + 1 == example.rank
        assert not {item.title for item in example.found} & set(example.history)
