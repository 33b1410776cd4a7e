from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from laserrec.cli.data import app
from laserrec.data.dataset import Dataset
from laserrec.data.filters import Ties
from laserrec.data.inspection import inspect
from laserrec.data.options import ReadOptions
from laserrec.data.prepare import PrepareOptions, prepare
from laserrec.data.splits import KNOWN_SPLITS, SplitInfo
from laserrec.data.tables import SPLIT_TYPE
from laserrec.errors import DataError

LOG = """user,item,time
ann,a,1
ann,a,1
ann,b,3
ann,c,2
ann,a,4
bob,b,1
bob,a,1
bob,x,2
bob,c,3
cat,a,9
"""
ITEMS = "item,title\na,Apple\nb,\nc,Cherry\nnew,Date\n"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "log.csv").write_text(LOG)
    (folder / "items.csv").write_text(ITEMS)
    return folder


def order(dataset: Dataset, user: str) -> str:
    return "".join(dataset.interactions.filter(pl.col("user_id") == user)["item_id"].to_list())


def test_a_shops_log(shop: Path) -> None:
    dataset, summary = prepare(shop, PrepareOptions(min_user=1, min_item=1))
    assert order(dataset, "ann") == "acba"
    assert order(dataset, "bob") == "baxc"  # a and b tie: they stay as they stand in the file
    assert dataset.item_ids == ("a", "b", "c", "x")
    assert dataset.attributes() == [{"title": "Apple"}, {}, {"title": "Cherry"}, {}]
    assert dataset.items.columns == ["item_id", "title"]
    assert (summary.rows, summary.bad_rows, summary.duplicates, summary.repeats) == (14, 0, 1, 1)
    assert (summary.unknown_items, summary.unknown_dropped, summary.without_text) == (1, 0, 2)
    assert (summary.users, summary.items, summary.interactions, summary.unused_items) == (3, 4, 9, 1)
    assert dataset.cases("test").users.tolist() == [0, 1]  # cat has one event
    assert dataset.manifest["source"]["counts"]["duplicates"] == 1
    assert [file["name"] for file in dataset.manifest["source"]["files"]] == ["log.csv", "items.csv"]


def test_choices(shop: Path) -> None:
    def prepared(**choices: object) -> Dataset:
        return prepare(shop, PrepareOptions(**{"min_user": 1, "min_item": 1, **choices}))[0]  # type: ignore[arg-type]

    assert order(prepared(keep_repeats=False), "ann") == "acb"
    assert prepared(drop_unknown=True).item_ids == ("a", "b", "c")
    assert prepared(drop_untitled=True).item_ids == ("a", "c")
    assert prepared(all_items=True).item_ids == ("a", "b", "c", "new", "x")
    assert prepared(min_user=2).user_ids == ("ann", "bob")
    assert prepared(min_item=2).item_ids == ("a", "b", "c")
    assert prepared(name="mine").name == "mine"
    for options in ({"valid_share": 0.2}, {"test_share": 0.2, "split": "leave-one-out"}):
        with pytest.raises(DataError, match=r"share would be ignored: the split is .*Choose the split 'global-time'"):
            prepared(**options)
    assert prepared(split="global-time", valid_share=0.2, test_share=0.2).split == SplitInfo(
        "global-time", {"valid_from": 3, "test_from": 4}
    )


def test_the_default_core_says_why_nothing_is_left(shop: Path) -> None:
    with pytest.raises(DataError, match=r"every user has 5 and every item 5 events. Lower one of the two"):
        prepare(shop)


def test_events_within_a_second_keep_their_order(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\nu,a,1500000000300\nu,b,1500000000200\nu,c,1500000000100\n")
    dataset, _ = prepare(tmp_path / "log.csv", PrepareOptions(min_user=1, min_item=1))
    assert order(dataset, "u") == "cba"
    assert dataset.interactions["timestamp"].to_list() == [1_500_000_000] * 3


def test_the_order_of_the_file_matters_within_a_moment_alone(shop: Path) -> None:
    def prepared(ties: Ties, rows: list[str]) -> Dataset:
        (shop / "log.csv").write_text("\n".join([header, *rows]) + "\n")
        dataset, summary = prepare(shop, PrepareOptions(min_user=1, min_item=1, ties=ties))
        assert (summary.ties, summary.tied) == (ties, pytest.approx(4 / 10))  # ann's two rows at 1 are one event twice
        assert dataset.manifest["source"]["order"]["ties"] == ties
        return dataset

    header, *rows = LOG.splitlines()
    first, second = prepared("file", rows), prepared("file", rows[::-1])
    assert (order(first, "bob"), order(second, "bob")) == ("baxc", "abxc")
    assert first.fingerprint != second.fingerprint
    by_hash, again = prepared("hash", rows), prepared("hash", rows[::-1])
    assert by_hash.fingerprint == again.fingerprint
    assert by_hash.interactions.equals(again.interactions)


EVENTS = st.lists(st.tuples(st.sampled_from("uvwxyz"), st.sampled_from(["a", " b", "é", "d"]), st.integers(0, 6)), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(rows=EVENTS, fewest=st.integers(1, 3), repeats=st.booleans())
def test_a_log_is_prepared_as_lists_would_be(
    rows: list[tuple[str, str, int]], fewest: int, repeats: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = tmp_path_factory.mktemp("log") / "log.csv"
    source.write_text("user,item,time\n" + "".join(f"{user},{item},{time}\n" for user, item, time in rows), encoding="utf-8")
    left = sorted(dict.fromkeys((user, time, item.strip()) for user, item, time in rows), key=lambda row: row[:2])
    duplicates = len(rows) - len(left)
    firsts = {(user, item): time for user, time, item in reversed(left)}
    again = len(left) - len(firsts)
    if not repeats:
        left = [(user, time, item) for user, time, item in left if firsts[user, item] == time]
    while True:
        users, items = Counter(user for user, _, _ in left), Counter(item for _, _, item in left)
        kept = [row for row in left if users[row[0]] >= fewest and items[row[2]] >= fewest]
        if kept == left:
            break
        left = kept
    options = PrepareOptions(min_user=fewest, min_item=fewest, keep_repeats=repeats)
    if not left:
        with pytest.raises(DataError, match="No interaction is left"):
            prepare(source, options)
        return
    dataset, summary = prepare(source, options)
    expected = []
    for user in sorted(users):
        own = [(user, item, time) for name, time, item in left if name == user]
        splits = ["train"] * (len(own) - 2) + ["valid", "test"] if len(own) >= 3 else ["train"] * len(own)
        expected += [(*row, split) for row, split in zip(own, splits, strict=True)]
    assert dataset.interactions.rows() == expected
    assert (dataset.user_ids, dataset.item_ids) == (tuple(sorted(users)), tuple(sorted(items)))
    assert (summary.duplicates, summary.repeats, summary.interactions) == (duplicates, again, len(left))
    assert summary.repeats_kept == repeats


def test_scientific_is_the_published_split(real_data: Callable[[str], Path]) -> None:
    source = real_data("scientific")
    dataset, summary = prepare(source)
    assert (summary.users, summary.items, summary.interactions, summary.bad_rows) == (8442, 4385, 59427, 0)
    assert KNOWN_SPLITS[dataset.fingerprint].name == "unisrec-scientific"
    # The cases are the rows of the test file: the last 50 items of the history, and what came next.
    rows = pl.read_csv(source / "Scientific.test.inter", separator="\t", quote_char=None, infer_schema=False).rows()
    names = {number: name for name, number in (line.split("\t") for line in (source / "Scientific.item2index").read_text().splitlines())}
    users = {number: name for name, number in (line.split("\t") for line in (source / "Scientific.user2index").read_text().splitlines())}
    cases = dataset.cases("test")
    ids = dataset.item_ids
    found = {
        dataset.user_ids[user]: ([ids[item] for item in history[-50:]], ids[target])
        for user, history, target in zip(cases.users, cases.histories, cases.targets, strict=True)
    }
    assert found == {users[user]: ([names[item] for item in history.split()][-50:], names[target]) for user, history, target in rows}


def test_office_is_read_whole(real_data: Callable[[str], Path]) -> None:
    dataset, summary = prepare(real_data("office"), PrepareOptions(min_user=1, min_item=1))
    assert (summary.users, summary.items, summary.interactions, summary.bad_rows) == (3231, 3317, 22447, 0)
    assert summary.unused_items == 3459 - 3317
    assert dataset.attributes()[0]["title"].startswith("HP 74 Black & 75 Tri-color Original Ink Cartridges, 2")


def test_inspect_counts_by_hand(shop: Path) -> None:
    inspection = inspect(prepare(shop, PrepareOptions(min_user=1, min_item=1))[0])
    assert inspection.split_interactions == {"train": 5, "valid": 2, "test": 2}
    assert inspection.cases == {"valid": 2, "test": 2}
    assert inspection.density == 9 / 12
    assert (inspection.history_length.smallest, inspection.history_length.median, inspection.history_length.largest) == (1, 4, 4)
    assert inspection.popularity.mean == 9 / 4
    assert inspection.top_tenth == 4 / 9
    assert inspection.never_trained == 1  # x stands in bob's valid
    assert inspection.attributes == {"title": 0.5}
    assert inspection.without_text == 0.5
    assert inspection.repeats == pytest.approx(1 / 9)
    assert inspection.seen_targets == 0.5  # ann's second apple
    assert inspection.ties == pytest.approx(2 / 9)
    assert not inspection.leaks.found


def test_the_leak_check_finds_leaks() -> None:
    rows = [("u", "a", 5, "train"), ("u", "b", 1, "train"), ("u", "a", 5, "test"), ("v", "a", 9, "train"), ("v", "b", 8, "test")]
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64, "split": SPLIT_TYPE}
    items = pl.DataFrame({"item_id": ["a", "b"], "title": ["A", "B"]})
    dataset = Dataset.build(
        "x", items, pl.DataFrame(rows, schema=schema, orient="row"), SplitInfo("global-time", {"valid_from": 5, "test_from": 8})
    )
    leaks = inspect(dataset).leaks
    assert (leaks.same_event, leaks.later_training, leaks.after_cut) == (1, 1, 2)
    assert leaks.found


def test_the_leak_check_says_what_other_users_did_later(tmp_path: Path) -> None:
    # ann's test event is at 3, and bob's training events are at 4 and 5; bob's test event, at 7, is older than none.
    rows = ["ann,a,1", "ann,b,2", "ann,c,3", "bob,a,4", "bob,b,5", "bob,c,6", "bob,a,7"]
    (tmp_path / "log.csv").write_text("user,item,time\n" + "\n".join(rows) + "\n")
    out = tmp_path / "out"
    run("prepare", tmp_path / "log.csv", "--out", out, "--min-user", 1, "--min-item", 1)
    found = inspect(Dataset.load(out)).leaks
    assert (found.found, found.older_tests) == (False, 0.5)
    shown = " ".join(run("inspect", out).split())
    assert "passed: within each user" in shown
    assert "50% of the test events are older than some training event of another user" in shown
    assert json.loads(run("inspect", out, "--json"))["leaks"]["older_tests"] == 0.5


def test_what_may_not_be_meant_is_shown_with_its_flags(tmp_path: Path) -> None:
    rows = [f"u{n // 6},i{n * 5 % 7},9,{'view' if n % 2 else 'buy'}" for n in range(60)]
    (tmp_path / "log.csv").write_text("user,item,time,event_type\n" + "\n".join(rows) + "\n")
    out = tmp_path / "out"
    core = ("--min-user", 1, "--min-item", 1)
    shown = " ".join(run("prepare", tmp_path / "log.csv", "--out", out, *core).split())
    assert "! log.csv: every row is an event whatever its 'event_type' is" in shown
    assert "(--keep event_type=VALUE)" in shown
    assert "! 100% of the events share their moment" in shown
    assert "(--ties hash)" in shown
    assert "! 100% of the events share their moment" in " ".join(run("inspect", out).split())
    summary = json.loads(
        run("prepare", tmp_path / "log.csv", "--out", out, *core, "--force", "--json", "--keep", "event_type=buy", "--ties", "hash")
    )
    assert (summary["left_out"], summary["ties"], summary["columns"]["kept by"]) == (30, "hash", "event_type = buy")
    assert Dataset.load(out).manifest["source"]["options"]["read"]["keep"] == ["event_type=buy"]


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_line(shop: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["prepare", shop, "--out", out, "--min-user", 1, "--min-item", 1]
    shown = run(*arguments)
    for words in ("shop", "column: user", "duplicate events dropped", "fingerprint", "not a split with published numbers"):
        assert words in shown
    summary = json.loads(run(*arguments, "--force", "--json"))
    assert (summary["users"], summary["columns"]["user"], summary["split"]["kind"]) == (3, "user", "leave-one-out")
    assert "leak check" in run("inspect", out)
    inspection = json.loads(run("inspect", out, "--json"))
    assert inspection["fingerprint"] == summary["fingerprint"] == Dataset.load(out).fingerprint
    with pytest.raises(DataError, match="replace it"):
        run(*arguments)


def test_force_never_replaces_the_source(shop: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("prepare", shop, "--out", out, "--min-user", 1, "--min-item", 1)
    core = ("--min-user", 1, "--min-item", 1, "--force")
    # The table, and the items, of a dataset are sources like any others.
    for words in (
        ("prepare", shop, "--out", shop),
        ("prepare", shop / "log.csv", "--out", tmp_path),
        ("prepare", out / "interactions.parquet", "--out", out),
        ("prepare", shop / "log.csv", "--items", out / "items.parquet", "--out", out),
    ):
        with pytest.raises(DataError, match=r"would replace .*, from which it is made"):
            run(*words, *core)
    with pytest.raises(DataError, match="would replace"):
        run("restrict", out, "--users", 0.5, "--out", out, "--force")
    with pytest.raises(DataError, match="holds other files"):
        run("restrict", out, "--users", 0.5, "--out", shop, "--force")
    assert (shop / "log.csv").read_text() == LOG
    assert Dataset.load(out).user_ids == ("ann", "bob", "cat")


def test_nothing_is_written_when_the_run_stops(shop: Path, tmp_path: Path) -> None:
    with (shop / "log.csv").open("a") as file:
        file.write(",a,1\n")
    with pytest.raises(DataError, match=r"log.csv:12: no user id"):
        run("prepare", shop, "--out", tmp_path / "out", "--min-user", 1, "--min-item", 1)
    assert not (tmp_path / "out").exists()


def test_names_of_columns_reach_the_reader(tmp_path: Path) -> None:
    (tmp_path / "log.txt.csv").write_bytes("who;what;then\nzoë;é1;14.07.2017\nzoë;é2;15.07.2017\n".encode("latin-1"))
    (tmp_path / "things.csv").write_bytes("code;words;colour;size\né1;Sofa;röd;L\n".encode("latin-1"))
    run(
        *(
            "prepare",
            tmp_path / "log.txt.csv",
            "--out",
            tmp_path / "out",
            "--user-column",
            "who",
            "--item-column",
            "what",
            "--time-column",
            "then",
        ),
        *("--time-format", "%d.%m.%Y", "--items", tmp_path / "things.csv", "--item-id-column", "code", "--title-column", "words"),
        *("--attribute", "colour", "--encoding", "latin-1", "--min-user", 1, "--min-item", 1),
    )
    dataset = Dataset.load(tmp_path / "out")
    assert dataset.attributes() == [{"title": "Sofa", "colour": "röd"}, {}]
    assert order(dataset, "zoë") == "é1é2"
    assert dataset.interactions["timestamp"].to_list() == [1_499_990_400, 1_500_076_800]
    assert dataset.manifest["source"]["options"]["read"]["encoding"] == "latin-1"
    assert ReadOptions().encoding == "utf-8"
