"""Comparing runs: expected values are worked out by hand."""

from __future__ import annotations

import shutil
from dataclasses import replace
from math import log2
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from laserrec.comparison.compare import compare_runs
from laserrec.comparison.entries import Entry, read_entries
from laserrec.comparison.layout import grids, html, markdown
from laserrec.comparison.published import published
from laserrec.comparison.slices import slices
from laserrec.comparison.statistics import _test, holm
from laserrec.config import LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.data.prepare import PrepareOptions, prepare
from laserrec.errors import CheckpointError, ConfigError, DataError
from laserrec.evaluation.metrics import PROTOCOLS, Evaluation
from laserrec.evaluation.statistics import interval
from laserrec.laser.folder import ModelFolder
from laserrec.runs.folder import RunFolder
from laserrec.system.files import write_json

NAME = "A|<b>model</b>"
TURNED = "Mod\u202eel\u2069"


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Four users who took three to six of six items; `rare` stands in no training event."""
    histories = {"u0": "abc", "u1": "abcd", "u2": "abcda", "u3": "abcdarare"}
    source = tmp_path / "source"
    source.mkdir()
    rows = [f"{user},{item},{time}" for user, history in histories.items() for time, item in enumerate(_split(history))]
    (source / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    titles = {"a": "one", "b": "one two", "c": "one two three four five", "d": "x", "rare": "some words"}
    (source / "items.csv").write_text("\n".join(["item_id,title", *(f"{item},{title}" for item, title in titles.items())]) + "\n")
    dataset = prepare(source, PrepareOptions(name="shop", min_user=1, min_item=1))[0]
    dataset.save(tmp_path / "data")
    return dataset


def _split(history: str) -> list[str]:
    return [*history.removesuffix("rare"), *(["rare"] if history.endswith("rare") else [])]


def write_run(
    folder: Path,
    data: Dataset,
    ranks: list[int],
    *,
    unseen: list[int] | None = None,
    seed: int = 0,
    model: str = "Laser",
    users: list[int] | None = None,
    targets: list[int] | None = None,
    settings: tuple[str, ...] = (),
    chosen: tuple[str, ...] = (),
    lists: dict[str, float] | None = None,
    costs: str = '{"costs": {"laser": {"seconds": 3.0, "parameters": 5}}}',
) -> Path:
    """Write a run of which nothing is there but its description and the ranks of its test cases."""
    owner = folder.parent if model != "Laser" else folder
    if not (owner / "run.json").exists():
        config = LaserConfig(seed=seed).override(settings)
        run = RunFolder.begin(owner, config, data, owner.parent / "data", command=["laserrec", "train"])
        write_json(owner / "run.json", run.about | {"plan": {"chosen": dict.fromkeys(chosen, 1)}, "peak_memory": 2**30})
    cases = data.cases("test")
    asked = np.array(users if users is not None else cases.users)
    following = np.array(targets if targets is not None else cases.targets)
    about = {"model": model, "dataset": data.name, "fingerprint": data.fingerprint, "split": "test", "seconds": 2.0, "parameters": 7}
    both = {"full": np.array(ranks), "filter_seen": np.array(unseen or ranks)}
    Evaluation(asked, following, cases.histories.lengths, both, dict.fromkeys(PROTOCOLS, lists or {}), about).save(
        folder / "ranks-test.parquet", [*data.user_ids, "other"], data.item_ids
    )
    if model == "Laser":
        (folder / "model").mkdir(exist_ok=True)
        (folder / "model" / "laser.json").write_text(costs)
    return folder


def test_figures_tests_and_slices(data: Dataset, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", data, [1, 1, 3, 11])
    other = write_run(run / "other", data, [1, 11, 11, 11], model=NAME)
    found = compare_runs([run, other])
    assert (found.dataset, found.cases, [table.protocol for table in found.tables]) == ("shop", 4, ["full", "filter_seen"])
    table = found.tables[0]
    ours, theirs = table.rows
    assert (ours.name, ours.seconds, ours.parameters, ours.figures["recall@10"].mean) == ("Laser", 3.0, 5, 0.75)
    assert (theirs.name, theirs.seconds, theirs.parameters, theirs.figures["recall@10"].mean) == (NAME, 2.0, 7, 0.25)
    # Ranks 1, 1, 3, 11 are worth 1, 1, 1/2 and 0.
    assert ours.figures["ndcg@10"].mean == pytest.approx((1 + 1 + 1 / log2(4)) / 4)
    recall, ndcg, deep = table.tests
    assert (deep.metric, deep.difference, deep.p_t) == ("recall@50", 0, 1)
    assert (recall.metric, recall.difference, recall.ahead, recall.behind) == ("recall@10", 0.5, 2, 0)
    # Differences 0, 1, 1, 0: mean 1/2, deviation √(1/3), t = (1/2) / (√(1/3) / 2) = √3 with three degrees of freedom.
    assert recall.effect == pytest.approx(0.5 * 3**0.5)
    # P(|t| > √3) = 1 − 2/π · (π/4 + 1/2) for three degrees of freedom, 0.1817; the smallest of three tests counts three times.
    alone = 1 - 2 / np.pi * (np.pi / 4 + 0.5)
    # Differences 0, 1, 1/2, 0 of N@10: t = (3/8) / (√(.6875/3) / 2) = 1.567.
    assert (ndcg.difference, ndcg.ahead, ndcg.behind) == (pytest.approx(0.375), 2, 0)
    assert recall.p_t == pytest.approx(min(1, 3 * alone), abs=1e-9)
    assert ndcg.p_t >= recall.p_t
    by = {(one.by, one.label): one for one in table.slices}
    assert [by["items in the history", label].cases for label in ("1–2", "3–4", "5–9")] == [1, 2, 1]
    # The rare item is the target of u3, whose rank is 11 in both, and stands in no training event.
    cold = by["training events of the target", "0"]
    assert (cold.cases, cold.values) == (1, {"Laser": 0, NAME: 0})
    # The targets of u1, u2 and u3 have at most two words; that of u0 has five.
    assert by["words of the target's text", "0–4"].values["Laser"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert sum(one.cases for one in table.slices) == 3 * 4


def test_figures_as_a_table(data: Dataset, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", data, [1, 1, 3, 11], lists={"coverage@10": 0.25})
    found = compare_runs([run, write_run(run / "other", data, [1, 11, 11, 11], model="Other", lists={})]).frame()
    assert found.height == 2 * (2 * 5 + 1)
    ours = found.filter((pl.col("protocol") == "filter_seen") & (pl.col("model") == "Laser")).select("metric", "mean", "deviation").rows()
    assert ours[0] == ("recall@10", 0.75, None)
    assert ours[-1] == ("coverage@10", 0.25, None)


def test_lists_of_seeds_are_averaged_where_all_have_them(data: Dataset, tmp_path: Path) -> None:
    ours = [
        write_run(tmp_path / f"seed-{seed}", data, [1, 1, 3, 11], seed=seed, lists={"coverage@10": 0.2 + 0.2 * seed, "novelty@10": 9.0})
        for seed in (0, 1)
    ]
    write_run(ours[1], data, [1, 1, 3, 11], seed=1, lists={"coverage@10": 0.4, "arp@10": 3.0})
    rival = write_run(tmp_path / "rival" / "old", data, [2, 2, 2, 2], model="Old", lists={})
    found = compare_runs([*ours, rival])
    assert [row.lists for row in found.tables[0].rows] == [{"coverage@10": pytest.approx(0.3)}, {}]
    shown = [grid for grid in grids(found) if grid.title.endswith("the lists of ten")]
    assert [grid.rows for grid in shown] == [[["Laser", "30.0%", "–", "–", "–", "–"]]] * 2


def test_long_histories_are_told_apart(data: Dataset) -> None:
    lengths = np.array([1, 2, 19, 20, 49, 50, 99, 100, 199, 200, 731])
    first = np.zeros(len(lengths), np.int64)
    found = Evaluation(first, first, lengths, {"full": first + 1, "filter_seen": first + 1}, {}, {})
    of_length = [
        one for one in slices([Entry("Laser", [], [found], 0, 0, None)], data, "ndcg@10", "full") if one.by == "items in the history"
    ]
    assert [(one.label, one.cases) for one in of_length] == [
        ("1–2", 2),
        ("10–19", 1),
        ("20–49", 2),
        ("50–99", 2),
        ("100–199", 2),
        ("200+", 2),
    ]


def test_seeds_of_one_model_are_averaged_case_by_case(data: Dataset, tmp_path: Path) -> None:
    first = write_run(tmp_path / "first", data, [1, 11, 11, 11], seed=0)
    second = write_run(tmp_path / "second", data, [1, 1, 1, 11], seed=1)
    rival = write_run(first / "rival", data, [11, 11, 11, 11], model="Rival")
    table = compare_runs([first, second, rival]).tables[0]
    laser = table.rows[0]
    assert (len(table.rows), laser.seeds, laser.name) == (2, 2, "Laser")
    # R@10 is 1/4 and 3/4: mean 1/2, deviation √(2 · (1/4)²).
    assert laser.figures["recall@10"].mean == 0.5
    assert laser.figures["recall@10"].deviation == pytest.approx((2 * 0.25**2) ** 0.5)
    assert (table.tests[0].difference, table.tests[0].ahead) == (0.5, 3)
    assert "0.5000 ± 0.3536" in markdown(compare_runs([first, second, rival]))


def test_nothing_differs(data: Dataset, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", data, [1, 2, 3, 4])
    same = write_run(run / "same", data, [1, 2, 3, 4], model="Same")
    for test in compare_runs([run, same]).tables[0].tests:
        assert (test.difference, test.effect, test.p_t, test.p_wilcoxon) == (0, 0, 1, 1)


def test_everything_differs_by_the_same(data: Dataset, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", data, [1, 1, 1, 1])
    other = write_run(run / "other", data, [11, 11, 11, 11], model="Other")
    test = compare_runs([run, other]).tables[0].tests[0]
    # Of the 16 ways to sign four ranks two are as extreme: 1/8 for two of three tests, corrected to 3/8.
    assert (test.difference, test.p_t, test.p_wilcoxon) == (1, 0, pytest.approx(0.375))


def test_the_signed_rank_test_leaves_out_what_does_not_differ() -> None:
    # Differences 1, -1/2, 0 and 1/3: ranks 1 (+), 2 (-) and 3 (+) by size, so 2 against 4; of the eight ways to sign three ranks six are
    # as uneven or more.
    test = _test(np.array([1, 1 / 2, 0, 1 / 3]), np.array([0, 1.0, 0, 0]), "ndcg@10", "rival")
    assert (test.ahead, test.behind) == (2, 1)
    assert test.p_wilcoxon == pytest.approx(0.75)


def test_seeds_do_not_break_ties() -> None:
    # 1 - 2/3 and 2/3 - 1/3 differ in the last bit.
    thirds = np.array([0.0, 1.0, 2.0, 3.0]) / 3
    ours, theirs = thirds[[3, 2, 1, 0, 3]], thirds[[2, 1, 0, 0, 3]]
    assert len(np.unique(ours - theirs)) == 3
    test = _test(ours, theirs, "recall@10", "rival")
    assert (test.ahead, test.behind) == (3, 0)
    # Three equal differences: of the eight ways to sign them two are as extreme.
    assert test.p_wilcoxon == pytest.approx(0.25)


def test_protocols_have_figures_of_their_own(data: Dataset, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", data, [11, 11, 11, 11], unseen=[1, 1, 1, 11])
    rival = write_run(run / "rival", data, [1, 11, 11, 11], unseen=[11, 11, 11, 11], model="Rival")
    ranked, left_out = compare_runs([run, rival]).tables
    assert [table.rows[0].figures["recall@10"].mean for table in (ranked, left_out)] == [0, 0.75]
    assert [table.tests[0].difference for table in (ranked, left_out)] == [-0.25, 0.75]
    assert [table.slices[0].values["Laser"] for table in (ranked, left_out)] == [0, 1]


def test_intervals_hold_the_mean_and_are_as_wide_as_they_should_be(data: Dataset, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", data, [1, 1, 11, 11])
    rival = write_run(run / "rival", data, [11, 11, 11, 11], model="Rival")
    table = compare_runs([run, rival]).tables[0]
    # Half of four draws: binomial, so the mean is 0 or 1 in a sixteenth of resamples each, more than the 2.5 % of each end.
    figure, test = table.rows[0].figures["recall@10"], table.tests[0]
    assert (figure.low, figure.high) == (test.low, test.high) == (0, 1)
    assert interval(np.repeat([0.0, 1.0], 5000)) == pytest.approx((0.5 - 1.96 * 0.005, 0.5 + 1.96 * 0.005), abs=1e-3)


def test_texts_make_a_model_of_their_own(data: Dataset, tmp_path: Path) -> None:
    first = write_run(tmp_path / "first", data, [1, 1, 1, 1])
    retitled = Dataset.build(data.name, data.items.with_columns(title=pl.lit("x")), data.interactions, data.split)
    second = write_run(tmp_path / "second", retitled, [1, 1, 1, 11], seed=1)
    assert len(read_entries([first, second], "test")) == 2


def test_one_model_is_what_differs_in_the_seed_alone(data: Dataset, tmp_path: Path) -> None:
    first = write_run(tmp_path / "first", data, [1, 1, 1, 1])
    same_seed = write_run(tmp_path / "same", data, [1, 1, 1, 1])
    wider = write_run(tmp_path / "wider", data, [1, 1, 1, 1], seed=1, settings=("mformer.width=64",))
    planned = write_run(
        tmp_path / "planned",
        data,
        [1, 1, 1, 11],
        seed=1,
        settings=("runtime.laser_micro_batch=1",),
        chosen=("runtime.laser_micro_batch",),
        costs='{"costs": {"laser": {"seconds": 9.0, "parameters": 5}}}',
    )
    assert [entry.name for entry in read_entries([first, same_seed], "test")] == [f"Laser ({first})", f"Laser ({same_seed})"]
    assert len(read_entries([first, wider], "test")) == 2
    (one,) = read_entries([first, planned], "test")
    assert (one.name, one.seconds, one.peak_memory) == ("Laser", 6.0, 2**30)


def test_a_demonstrations_peak_is_nobodys(data: Dataset, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", data, [1, 1, 1, 1])
    (run / "results.json").write_text("{}")
    assert read_entries([run], "test")[0].peak_memory is None


def test_a_baselines_peak_is_in_its_ranks(data: Dataset, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", data, [1, 1, 1, 1])
    old, new = (write_run(run / name, data, [1, 1, 1, 1], model=name) for name in ("old", "new"))
    found, path = Evaluation.load(new / "ranks-test.parquet"), new / "ranks-test.parquet"
    replace(found, about={**found.about, "peak_memory": 3 * 2**29}).save(path, data.user_ids, data.item_ids)
    compared = compare_runs([run, old, new])
    assert [row.peak_memory for row in compared.tables[0].rows] == [2**30, None, 3 * 2**29]
    assert [row[-1] for row in grids(compared)[0].rows] == ["1.00 GiB", "–", "1.50 GiB"]
    for text in (markdown(compared), html(compared)):
        assert "Peak memory is the most that the process had" in text


def test_a_folder_of_baselines_is_all_of_them(data: Dataset, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", data, [1, 1, 1, 1])
    for seed in (0, 1):
        folder = tmp_path / f"seed-{seed}"
        write_run(folder / "popularity", data, [2, 2, 2, 2], model="Popularity", seed=seed)
        write_run(folder / "item-knn", data, [3, 3, 3, 3], model="Item neighbours", seed=seed)
        (folder / "sasrec-text-id-2").mkdir()  # a member of an ensemble, of which there are no ranks
    seeds = [tmp_path / f"seed-{seed}" for seed in (0, 1)]
    entries = read_entries([run, *seeds], "test")
    assert [(entry.name, len(entry.paths)) for entry in entries] == [("Laser", 1), ("Item neighbours", 2), ("Popularity", 2)]
    with pytest.raises(
        DataError,
        match=r"holds several models: \S+/item-knn, \S+/popularity\. The first folder must hold .* such as \S+seed-0/item-knn$",
    ):
        read_entries([*seeds, run], "test")
    first = read_entries([seeds[0] / "popularity", *seeds, run], "test")  # itself among the others: once
    assert [(entry.name, len(entry.paths)) for entry in first] == [("Popularity", 2), ("Item neighbours", 2), ("Laser", 1)]
    with pytest.raises(DataError, match=r"no ranks of valid: it has not got so far, or .* no such cases\. Resume it"):
        read_entries([seeds[0]], "valid")


def test_all_seeds_of_a_folder_are_named_by_it(data: Dataset, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for seed in (0, 1):
        write_run(one / f"seed-{seed}", data, [1, 1, 1, 1], seed=seed)
        write_run(other / f"seed-{seed}", data, [2, 2, 2, 2], seed=seed)
    assert [entry.name for entry in read_entries([one, other], "test")] == [f"Laser ({one})", f"Laser ({other})"]
    write_run(one / "seed-2", data, [1, 1, 1, 1], seed=2)
    part = read_entries([one / "seed-0", one / "seed-1", other], "test")[0]
    assert part.name == f"Laser ({one / 'seed-0'}, {one / 'seed-1'})"


def test_a_folder_of_seeds_is_all_of_them(data: Dataset, tmp_path: Path) -> None:
    runs, baselines = tmp_path / "runs", tmp_path / "baselines"
    for seed in (0, 2, 10):
        write_run(runs / f"seed-{seed}", data, [1, 1, 1, 1], seed=seed)
        write_run(baselines / f"seed-{seed}" / "popularity", data, [2, 2, 2, 2], model="Popularity", seed=seed)
        write_run(baselines / f"seed-{seed}" / "item-knn", data, [3, 3, 3, 3], model="Item neighbours", seed=seed)
    (runs / "seed-best").symlink_to("seed-2")  # no seed's number
    (tmp_path / "best").symlink_to(baselines / "seed-2" / "item-knn")
    assert [len(entry.paths) for entry in read_entries([runs, tmp_path / "best", baselines], "test")] == [3, 3, 3]
    entries = read_entries([runs, baselines], "test")
    assert [(entry.name, len(entry.paths)) for entry in entries] == [("Laser", 3), ("Item neighbours", 3), ("Popularity", 3)]
    assert [path.name for path in entries[0].paths] == ["seed-0", "seed-2", "seed-10"]
    with pytest.raises(DataError, match=r"baselines holds several models: .* such as( \S+/seed-\d+/item-knn){3}$"):
        read_entries([baselines, runs], "test")
    shutil.rmtree(runs / "seed-0" / "model")
    with pytest.raises(CheckpointError, match=r"runs holds a run for each of several seeds\. Name one, such as .*seed-2\.$"):
        RunFolder.open(runs)
    with pytest.raises(CheckpointError, match=r"several seeds\. None has a trained model\.$"):
        RunFolder.open(baselines)
    with pytest.raises(CheckpointError, match="holds a run for each of several seeds"):
        ModelFolder.read(runs)
    with pytest.raises(ConfigError, match=r"several seeds\. Continue all of them"):
        RunFolder.begin(baselines, LaserConfig(), data, tmp_path / "data", command=["laserrec", "baseline"], resume=True)


def test_what_cannot_be_compared(data: Dataset, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", data, [1, 2, 3, 4])
    with pytest.raises(DataError, match="a comparison needs two"):
        compare_runs([run])
    with pytest.raises(DataError, match="Received no folder"):
        compare_runs([])
    with pytest.raises(DataError, match="named twice"):
        compare_runs([run, tmp_path / "." / "run"])
    with pytest.raises(DataError, match="was not evaluated on valid"):
        read_entries([run], "valid")
    with pytest.raises(CheckpointError, match="data is neither a run nor a model below one: neither it nor"):
        read_entries([tmp_path / "data"], "test")
    strangers = write_run(run / "strangers", data, [1, 2, 3, 4], model="Strangers", users=[0, 1, 2, 4])
    with pytest.raises(DataError, match="same cases"):
        compare_runs([run, strangers])
    other_targets = write_run(run / "targets", data, [1, 2, 3, 4], model="Targets", targets=[0, 0, 0, 0])
    with pytest.raises(DataError, match="same cases"):
        compare_runs([run, other_targets])
    with pytest.raises(CheckpointError, match="There is no folder"):
        compare_runs([run, tmp_path / "nosuch"])
    source = tmp_path / "elsewhere"
    source.mkdir()
    (source / "log.csv").write_text(
        "user_id,item_id,timestamp\n" + "\n".join(f"u{u},{i},{t}" for u in range(4) for t, i in enumerate("abd"))
    )
    other = prepare(source, PrepareOptions(name="other", min_user=1, min_item=1))[0]
    other.save(source / "data")
    foreign = write_run(source / "run", other, [1, 2, 3, 4])
    with pytest.raises(DataError, match="Figures of different splits are not comparable"):
        compare_runs([run, foreign])
    rival = write_run(run / "rival", data, [1, 2, 3, 4], model="Rival")
    with pytest.raises(DataError, match="Give their dataset"):
        compare_runs([run, rival], data=source / "data")


def test_markdown_and_page_hold_names_as_text(data: Dataset, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", data, [1, 1, 3, 11])
    found = compare_runs([run, write_run(run / "other", data, [1, 11, 11, 11], model=NAME)])
    page, text = html(found), markdown(found)
    assert "A|&lt;b&gt;model&lt;/b&gt;" in page
    assert "<b>" not in page
    assert "http:" not in page
    assert "https" not in page
    assert page.count('<th scope="col">') == sum(len(grid.head) for grid in grids(found))
    assert page.count('<tr><th scope="row">') == sum(len(grid.rows) for grid in grids(found))
    assert page.count('<div class="scroll" tabindex="0" role="region" aria-label="shop, test, 4 users') == len(grids(found))
    assert "display: block" not in page
    assert "A\\|&lt;b>model" in text
    for table in text.split("\n\n"):
        lines = [line.replace("\\|", "") for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1
    assert len(grids(found)) == 6


def test_the_page_loads_nothing_and_names_turn_nothing_round(data: Dataset, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", data, [1, 1, 3, 11])
    found = compare_runs([run, write_run(run / "other", data, [1, 11, 11, 11], model=TURNED)])
    assert """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">""" in html(found)
    for text in (html(found), markdown(found)):
        assert "Model" in text
        assert not set(text) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def test_holm() -> None:
    # Sorted .01 .02 .03 .5 times 4 3 2 1; the third, .06, is no smaller than the second, .06.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_published_figures_belong_to_a_fingerprint() -> None:
    rows = {row.name: row.metrics for row in published("c56a2f8342409978cd1cd13cd0d4c8759d3c01d00ab718e11bc8c16d6011386b")}
    assert rows["VQ-Rec"] == {"recall@10": 0.1211, "ndcg@10": 0.0643, "recall@50": 0.2369, "ndcg@50": 0.0897}
    assert published("0" * 64) == []
