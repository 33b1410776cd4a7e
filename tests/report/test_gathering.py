"""What a report is made of: expected values by hand, or from scikit-learn."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import normalized_mutual_info_score

from laserrec.comparison.compare import compare_runs
from laserrec.data.dataset import Dataset
from laserrec.data.ragged import Ragged
from laserrec.errors import CheckpointError, DataError
from laserrec.evaluation.metrics import Evaluation
from laserrec.report.fits import read_fits
from laserrec.report.gather import Report, gather
from laserrec.report.item_map import principal_plane
from laserrec.report.kinds import OTHER, Kinds, history_kinds, item_kinds
from laserrec.report.population import Histogram
from laserrec.report.routing import associate, normalised_information
from laserrec.runs.demo import BESIDE
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


def test_normalised_information() -> None:
    # Rows tell columns: I = H = H, so 1. Independent counts: 0. One column alone tells nothing.
    assert normalised_information(np.array([[4, 0], [0, 6]])) == pytest.approx(1)
    assert normalised_information(np.array([[2, 4], [3, 6]])) == pytest.approx(0, abs=1e-12)
    assert normalised_information(np.array([[5], [7]])) == pytest.approx(0, abs=1e-12)
    assert normalised_information(np.array([[5]])) == 0
    rows, columns = np.random.default_rng(0).integers(0, [[4], [3]], (2, 500))
    table = np.zeros((4, 3), np.int64)
    np.add.at(table, (rows, columns), 1)
    assert normalised_information(table) == pytest.approx(normalized_mutual_info_score(rows, columns))


def test_association() -> None:
    values = np.repeat([3, 5, 8, 20], 10)
    lengths = Kinds.of_numbers("length", values)
    told = associate(lengths, (values > 5).astype(np.int64), 2)
    assert (told.by, list(told.labels)) == ("length", ["3", "5", "8", "20"])
    assert told.counts == [[10, 0], [10, 0], [0, 10], [0, 10]]
    # H(kind) = ln 4, H(expert) = I = ln 2: 2 ln 2 / (ln 4 + ln 2) = 2/3; no permutation of 999 comes near.
    assert told.information == pytest.approx(2 / 3)
    assert told.p_value == 1 / 1000
    assert told.chance < 0.1
    alternating = associate(lengths, np.tile([0, 1], 20), 2)
    assert (alternating.information, alternating.p_value) == (pytest.approx(0, abs=1e-12), 1.0)
    assert associate(lengths, np.zeros(40, np.int64), 2).p_value == 1.0


def test_numbers_are_divided_at_quantiles() -> None:
    found = Kinds.of_numbers("length", np.array([9, 1, 1, 2, 3, 4, 5, 6, 7, 8]))
    # Of ten, the 1st, 2nd, 4th, 6th and 8th begin a kind: 1, 1, 3, 5 and 7.
    assert (found.labels, found.rows.tolist()) == (["1–2", "3–4", "5–6", "7–9"], [3, 0, 0, 0, 1, 1, 2, 2, 3, 3])
    assert Kinds.of_numbers("length", np.array([6, 6, 6])).labels == ["6"]


def test_taste_is_the_kind_of_most_items() -> None:
    kinds = ["tents", "tents", "pans", OTHER, OTHER, "ropes"]
    histories = Ragged.from_rows(
        [
            [2, 0, 1],  # two tents
            [0, 2],  # one each: the pan came last
            [2, 3, 0],  # one each: the tent came last
            [0, 2, 2, 1, 3],  # two each of tents and pans: the tent came last of these
            [3, 4, 0],  # two without a kind
            [3],
            [3, 4, 4],
            [2],
            [0, 3, 1, 4],  # two tents and two without a kind, which came last
            [0],
        ]
    )
    found = Kinds.of_items("taste", histories, kinds)
    assert list(found.labels) == ["tents", "pans", OTHER]  # by users, ropes for nobody, others last though there are most of them
    assert [found.labels[row] for row in found.rows] == [
        *("tents", "pans", "tents", "tents"),
        *(OTHER, OTHER, OTHER, "pans", OTHER, "tents"),
    ]


def test_histories_have_a_taste_where_items_have_kinds() -> None:
    histories, popularity = Ragged.from_rows([[0, 1, 2], [2, 1]]), np.array([7, 1, 4])
    length, popular, taste = history_kinds(histories, popularity, "genre", ["war", "war", "crime"])
    assert (length.by, length.labels, length.rows.tolist()) == ("items in the history", ["2", "3"], [1, 0])
    # Medians are 4 and 2.5, of which the whole part counts.
    assert (popular.labels, popular.rows.tolist()) == (["2", "4"], [1, 0])
    assert (taste.by, taste.labels, taste.rows.tolist()) == ("genre of most items in the history", ["war"], [0, 0])
    assert [kinds.by for kinds in history_kinds(histories, popularity, None, [])] == [length.by, popular.by]


def test_principal_plane_is_that_of_pca() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32) @ np.diag([5, 3, 1, 1, 1, 1, 1, 1]).astype(np.float32)
    reference = PCA(2).fit(vectors)
    expected = reference.transform(vectors)
    places, explained = principal_plane(vectors)
    np.testing.assert_allclose(np.abs(places), np.abs(expected), rtol=1e-3, atol=1e-3)
    assert explained == pytest.approx(tuple(reference.explained_variance_ratio_), rel=1e-4)
    assert principal_plane(np.ones((3, 4), np.float32))[1] == (0, 0)


def test_kinds_of_items() -> None:
    paths = [{"title": "t", "category": f"Shop & Co {word} more", "id": str(place)} for place, word in enumerate(["Tents,", "Pans"] * 5)]
    assert item_kinds(paths) == ("category", ["Tents", "Pans"] * 5)
    genres = [{"genre": genre} for genre in ["Drama War", "Drama", "Comedy", "Crime"]] + [{}]
    assert item_kinds(genres) == ("genre", ["Drama", "Drama", "Comedy", "Crime", OTHER])
    assert item_kinds([{"brand": f"b{place}"} for place in range(40)]) == (None, [])
    assert item_kinds([{"brand": "one"}] * 9) == (None, [])
    assert item_kinds([{"title": "one"}, {"title": "two"}]) == (None, [])


def test_fits_in_order_with_the_epoch_that_was_kept(report: Report, demonstrated: Path) -> None:
    names = [fit.name for fit in report.fits]
    assert names[:4] == ["collaborative", "stage1", "stage2", "bert4rec"]
    assert names[3:] == sorted(names[3:])
    assert {f"{name}/metrics.jsonl" for name in names} == {
        path.relative_to(demonstrated / "run").as_posix() for path in demonstrated.glob("run/*/metrics.jsonl")
    }
    stage = report.fits[1]
    lines = [json.loads(line) for line in (demonstrated / "run" / "stage1" / "metrics.jsonl").read_text().splitlines()]
    assert [epoch.loss for epoch in stage.epochs] == [None, *(line["train"]["loss"] for line in lines[1:])]
    assert stage.best.valid["ndcg@10"] == max(line["valid"]["ndcg@10"] for line in lines)
    assert not stage.epochs[0].expert_load
    assert sum(stage.epochs[1].expert_load) == pytest.approx(1)


@pytest.mark.parametrize("text", ["", "{", "[]\n", '{"epoch": 0}\n'])
def test_a_damaged_log_is_told(text: str, demonstrated: Path, tmp_path: Path) -> None:
    (tmp_path / "stage1").mkdir()
    (tmp_path / "stage1" / "metrics.jsonl").write_text(text)
    run = RunFolder.open(demonstrated / "run")
    with pytest.raises(CheckpointError, match="is not a log of epochs"):
        read_fits(RunFolder(tmp_path, run.config, run.about))


def test_figures_are_those_of_the_comparison(report: Report, demonstrated: Path) -> None:
    run = demonstrated / "run"
    expected = compare_runs([run, *(run / name for name in sorted(baseline.name for baseline in BESIDE))])
    assert report.compared.as_dict() == expected.as_dict()


def test_others_stand_beside_the_run_and_seeds_are_one_model(copied: Path, seeded: Path) -> None:
    run, sasrec = copied / "run", copied / "elsewhere" / "sasrec"
    shutil.copytree(run / "sasrec", sasrec)
    shutil.copy(run / "run.json", sasrec.parent)
    below = [run / name for name in sorted(baseline.name for baseline in BESIDE)]
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


def test_every_user_is_read_by_one_expert(report: Report) -> None:
    routing = report.routing
    assert routing is not None
    assert routing.users == sum(routing.load) == 8
    for found in routing.associations:
        assert np.sum(found.counts, axis=0).tolist() == list(routing.load)
    # Every history has six items, so its length tells nothing.
    assert (routing.associations[0].labels, routing.associations[0].information) == (["6"], 0)
    # Genres go round as camp, camp and three times kitchen. Of the six items from the u-th three are of camp, the last one too, where u is
    # 0, 1, 5 or 6; for the other four users kitchens are four.
    taste = routing.associations[2]
    assert (routing.attribute, taste.by) == ("genre", "genre of most items in the history")
    assert (list(taste.labels), [sum(row) for row in taste.counts]) == (["<i>Camp</i>", "Kitchen"], [4, 4])


def test_paths_end_at_the_test_event(report: Report, demonstrated: Path) -> None:
    data = Dataset.load(demonstrated / "data")
    titles = {user: [data.items["title"][int(item)] for item in row] for user, row in zip(data.user_ids, data.histories(), strict=True)}
    assert len(report.items.paths) == 3
    for path in report.items.paths:
        assert [report.items.titles[place] for place in path.items] == titles[path.user]


def test_examples_are_lists_of_unseen_items(report: Report) -> None:
    assert len(report.examples) == 8
    for example in report.examples:
        shown = [item.item_id for item in example.found]
        assert len(shown) == 4  # of ten items, six were seen
        assert shown.index(example.target) + 1 == example.rank
        assert not {item.title for item in example.found} & set(example.history)
