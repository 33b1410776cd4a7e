"""Metrics by hand and against scikit-learn; protocols, files and significance."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from laserrec.data.dataset import Cases
from laserrec.data.ragged import Ragged
from laserrec.errors import ConfigError, DataError
from laserrec.evaluation.lists import ListMeasures
from laserrec.evaluation.metrics import Evaluation, evaluate, metrics, per_case
from laserrec.evaluation.statistics import compare, interval

N = 6
EVENLY = ListMeasures(np.ones(N, np.int64), np.ones(N), np.ones(N), torch.eye(N, dtype=torch.float64).to_sparse())
"""Of items that are equally popular and have no word in common."""
CASES = Cases(np.array([4, 0, 2]), Ragged.from_rows([[1, 2, 1], [3], [5, 0]]), np.array([3, 2, 5]))


def by_last_item(items: Tensor, mask: Tensor) -> Tensor:
    """After item i, item i scores highest and then i + 1, i + 2, … around the catalogue."""
    last = items.gather(1, mask.sum(1, keepdim=True) - 1)
    return -((torch.arange(N) - last) % N).float()


def test_metrics_by_hand() -> None:
    found = metrics(np.array([1, 3, 12]), ks=(1, 10))
    assert found == {
        "recall@1": pytest.approx(1 / 3),
        "hit@1": pytest.approx(1 / 3),
        "ndcg@1": pytest.approx(1 / 3),
        "mrr@1": pytest.approx(1 / 3),
        "recall@10": pytest.approx(2 / 3),
        "hit@10": pytest.approx(2 / 3),
        "ndcg@10": pytest.approx((1 + 1 / math.log2(4)) / 3),
        "mrr@10": pytest.approx((1 + 1 / 3) / 3),
        "mrr": pytest.approx((1 + 1 / 3 + 1 / 12) / 3),
    }


def test_ndcg_and_mrr_equal_scikit_learn() -> None:
    reference = pytest.importorskip("sklearn.metrics", reason="scikit-learn is an extra")
    generator = np.random.default_rng(0)
    scores, targets = generator.normal(size=(40, 30)), generator.integers(0, 30, 40)
    relevance = np.eye(30)[targets]
    ranks = 1 + (scores > scores[np.arange(40), targets][:, None]).sum(1)
    found = metrics(ranks, ks=(1, 5, 10))
    for k in (1, 5, 10):
        assert found[f"ndcg@{k}"] == pytest.approx(reference.ndcg_score(relevance, scores, k=k))
        assert found[f"recall@{k}"] == pytest.approx(reference.top_k_accuracy_score(targets, scores, k=k, labels=np.arange(30)))
    assert found["mrr"] == pytest.approx(reference.label_ranking_average_precision_score(relevance, scores))


@pytest.mark.parametrize("metric", ["ndcg", "recall@", "recall@0", "recall@-1", "recall@x", "map@10", "coverage@10", "mrr@1.5"])
def test_unknown_metrics_are_refused(metric: str) -> None:
    with pytest.raises(ConfigError, match="Unknown metric"):
        per_case(np.array([1]), metric)


@given(st.lists(st.integers(1, 10_000), min_size=1), st.integers(1, 100))
def test_metrics_keep_their_order(ranks: list[int], k: int) -> None:
    found = metrics(np.array(ranks), ks=(k, k + 1))
    assert 0 <= found[f"mrr@{k}"] <= found[f"ndcg@{k}"] <= found[f"recall@{k}"] <= found[f"recall@{k + 1}"] <= 1
    assert found[f"mrr@{k}"] <= found["mrr"] + 1e-12


@pytest.mark.parametrize("at_once", [1, 2, 64])
def test_both_protocols_by_hand(at_once: int) -> None:
    measures = replace(EVENLY, counts=np.array([0, 1, 1, 2, 0, 0]))
    evaluation = evaluate(by_last_item, CASES, measures=measures, list_length=2, at_once=at_once)
    assert evaluation.users.tolist() == [4, 0, 2]
    assert evaluation.lengths.tolist() == [3, 1, 2]
    # After 1: 1 2 [3]. After 3: 3 4 5 0 1 [2]. After 0: 0 1 2 3 4 [5].
    assert evaluation.ranks["full"].tolist() == [3, 6, 6]
    # Left out: 1 and 2; 3; only 0, for 5 is the target itself.
    assert evaluation.ranks["filter_seen"].tolist() == [1, 5, 5]
    # Lists of two: 1 2, 3 4, 0 1.
    assert evaluation.lists["full"]["coverage@2"] == pytest.approx(5 / 6)
    assert evaluation.lists["full"]["arp@2"] == pytest.approx((2 + 2 + 1) / 2 / 3)
    # Lists of two: 3 4, 4 5, 1 2.
    assert evaluation.lists["filter_seen"]["coverage@2"] == pytest.approx(5 / 6)
    assert evaluation.lists["filter_seen"]["arp@2"] == pytest.approx((2 + 0 + 2) / 2 / 3)
    assert evaluation.metrics("filter_seen")["recall@1"] == pytest.approx(1 / 3)
    assert evaluation.metrics("full")["coverage@2"] == pytest.approx(5 / 6)


def test_without_measures_there_are_no_lists() -> None:
    assert evaluate(by_last_item, CASES).lists == {}


def test_no_case_is_refused() -> None:
    with pytest.raises(DataError, match="no case"):
        evaluate(by_last_item, CASES.take(np.empty(0, np.int64)))


def test_slices() -> None:
    evaluation = evaluate(by_last_item, CASES)
    short = evaluation.take(evaluation.lengths < 3)
    assert short.users.tolist() == [0, 2]
    assert short.metrics("full", ks=(5,))["recall@5"] == 0
    assert evaluation.per_case("mrr").tolist() == pytest.approx([1 / 3, 1 / 6, 1 / 6])


def test_saved_ranks_come_back(tmp_path: Path) -> None:
    evaluation = evaluate(by_last_item, CASES, measures=EVENLY, about={"model": "cycle", "fingerprint": "ab"})
    path = tmp_path / "new" / "ranks.parquet"
    evaluation.save(path, [f"user {user}" for user in range(5)], [f"item {item}" for item in range(N)])
    loaded = Evaluation.load(path)
    assert loaded.about == {"model": "cycle", "fingerprint": "ab"}
    for protocol in ("full", "filter_seen"):
        assert loaded.metrics(protocol) == evaluation.metrics(protocol)
    for name in ("users", "targets", "lengths"):
        assert getattr(loaded, name).tolist() == getattr(evaluation, name).tolist()
    assert [file.name for file in path.parent.iterdir()] == ["ranks.parquet"]


def test_ranks_saved_under_old_names_come_back(tmp_path: Path) -> None:
    columns = {"user": [0, 1], "target": [4, 2], "history_length": [3, 1], "rank_all": [7, 2], "rank_unseen": [5, 1]}
    header = {"about": '{"model": "Laser", "part": "valid"}', "lists": '{"all": {"coverage@10": 0.5}, "unseen": {"coverage@10": 0.25}}'}
    pl.DataFrame(columns).write_parquet(tmp_path / "ranks.parquet", metadata=header)
    found = Evaluation.load(tmp_path / "ranks.parquet")
    assert {protocol: ranks.tolist() for protocol, ranks in found.ranks.items()} == {"full": [7, 2], "filter_seen": [5, 1]}
    assert found.about == {"model": "Laser", "split": "valid"}
    assert found.lists == {"full": {"coverage@10": 0.5}, "filter_seen": {"coverage@10": 0.25}}


def test_saved_ranks_are_compared_with_their_seal_before_they_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ranks.parquet"
    # An id that looks like the seal is no seal.
    evaluate(by_last_item, CASES, about={"fingerprint": "ab"}).save(path, ["seal\x18@" + "0" * 64] * 5, ["i"] * N)
    content = path.read_bytes()
    Evaluation.load(path)
    monkeypatch.setattr(pl, "read_parquet", lambda *_: pytest.fail("decoded"))
    monkeypatch.setattr(pl, "read_parquet_metadata", lambda *_: pytest.fail("decoded"))
    for place in (4, len(content) // 2, len(content) - 20):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(DataError, match="does not match its checksum"):
            Evaluation.load(path)


def test_ranks_without_a_seal_are_refused_unless_they_are_old(tmp_path: Path) -> None:
    path = tmp_path / "ranks.parquet"
    evaluate(by_last_item, CASES).save(path, ["u"] * 5, ["i"] * N)
    path.write_bytes(path.read_bytes().replace(b"seal", b"leak"))
    with pytest.raises(DataError, match="does not match its checksum"):
        Evaluation.load(path)


def test_files_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no file"):
        Evaluation.load(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("ranks")
    with pytest.raises(DataError, match="does not hold the ranks"):
        Evaluation.load(tmp_path / "text.parquet")


def test_comparison_of_equals_and_of_unequals() -> None:
    generator = np.random.default_rng(1)
    values = generator.random(400)
    same = compare(values, values)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    better = compare(values + 0.1, values + generator.normal(0, 0.2, 400))
    assert better.p_value == pytest.approx(1 / 2001)
    assert better.low < better.difference < better.high
    assert better.low > 0


def test_randomisation_test_by_hand() -> None:
    # Three differences of 1: of eight sign patterns two are as extreme, so p is near 1/4.
    assert compare(np.ones(3), np.zeros(3), draws=20_000).p_value == pytest.approx(0.25, abs=0.02)


def test_p_values_are_uniform_under_the_null() -> None:
    generator = np.random.default_rng(2)
    values = [compare(*generator.normal(size=(2, 30)), draws=200).p_value for _ in range(200)]
    assert np.mean(np.array(values) <= 0.2) == pytest.approx(0.2, abs=0.09)


def test_interval_is_the_textbook_one() -> None:
    values = np.random.default_rng(3).normal(5, 2, 1000)
    low, high = interval(values)
    half = 1.96 * values.std() / math.sqrt(1000)
    assert (low, high) == (pytest.approx(values.mean() - half, abs=0.02), pytest.approx(values.mean() + half, abs=0.02))


def test_comparison_needs_the_same_cases() -> None:
    with pytest.raises(DataError, match="3 and 2 cases"):
        compare(np.ones(3), np.ones(2))
