"""Every user of a dataset at once."""

from __future__ import annotations

import csv
import resource
import signal
from pathlib import Path

import polars as pl
import pytest
from small_shop import after

from laserrec import Dataset, Laser
from laserrec.errors import DataError, UnknownIdError
from laserrec.runs.batch import formula_like_ids, recommend_users, write_table


def test_each_gets_what_they_would_get_alone(trained: Laser, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laserrec.runs.batch.USERS_AT_ONCE", 4)
    done: list[int] = []
    table = recommend_users(trained, data, 3, progress=done.append)
    assert done == [4, 8, 11]
    expected = [
        (f"user-{user:02}", rank, item.item_id, item.title)
        for user in range(11)
        for rank, item in enumerate(trained.recommend([after(user, 7)], 3)[0], start=1)
    ]
    assert table.select("user_id", "rank", "item_id", "title").rows() == expected
    assert table.schema == {"user_id": pl.String, "rank": pl.Int32, "item_id": pl.String, "title": pl.String, "score": pl.Float32}


def test_who_is_left_without_an_item_has_no_row(trained: Laser, data: Dataset) -> None:
    table = recommend_users(trained, data, only=["tent"], exclude_seen=False, without=["kite"])
    assert table.select("rank", "item_id").rows() == [(1, "tent")] * 11
    # The ring has 11 items and a user 7 in a row, so 4 of the 11 users have not seen the tent.
    assert recommend_users(trained, data, only=["tent"]).height == 4
    nobody = recommend_users(trained, data, only=[])
    assert (nobody.height, nobody.schema) == (0, table.schema)


def test_an_item_that_the_model_does_not_know_is_told_before_anything_is_computed(trained: Laser, data: Dataset) -> None:
    items = pl.concat([data.items, pl.DataFrame({"item_id": ["tents"], "title": ["Tents"], "brand": [None]}, schema=data.items.schema)])
    grown = Dataset.build("shop", items, data.interactions, data.split)
    assert recommend_users(trained, grown, k=1).equals(recommend_users(trained, data, k=1))  # nobody has it
    user, time = data.user_ids[0], int(data.interactions["timestamp"].max())  # type: ignore[arg-type]
    bought = pl.DataFrame([(user, "tents", time + 1, "test")], schema=data.interactions.schema, orient="row")
    own = data.interactions["user_id"] == user
    events = pl.concat([data.interactions.filter(own), bought, data.interactions.filter(~own)])
    grown = Dataset.build("shop", items, events, data.split)
    with pytest.raises(UnknownIdError, match=r"Unknown item id 'tents'.*'tent'"):
        recommend_users(trained, grown, progress=lambda _: pytest.fail("something was computed"))
    with pytest.raises(DataError, match="k = 0"):
        recommend_users(trained, data, 0)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, path = pl.DataFrame({"user_id": ["a"]}), tmp_path / "all.csv"
    write_table(table, path)

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(pl.DataFrame, "write_csv", full)
    with pytest.raises(DataError, match=r"Cannot write .*all\.csv: no space left"):
        write_table(table, path)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["user_id\na\n"]


def test_csv_runs_nothing_in_a_spreadsheet(tmp_path: Path) -> None:
    titles = ["=1+1", "+49", "-30- (1959)", "@home", "\tx", "\rx", "Tent", "", None, "a=b"]
    table = pl.DataFrame({"user_id": ["-5"] * 10, "item_id": [*"abcdefghi", "=j"], "title": titles})
    write_table(table, tmp_path / "all.csv")
    with (tmp_path / "all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["title"] for row in rows] == ["'=1+1", "'+49", "'-30- (1959)", "'@home", "'\tx", "'\rx", "Tent", "", "", "a=b"]
    assert [row["item_id"] for row in rows] == table["item_id"].to_list()  # other systems look ids up
    assert formula_like_ids(table) == 2
    write_table(table, tmp_path / "all.parquet")
    assert pl.read_parquet(tmp_path / "all.parquet").equals(table)


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    table = pl.DataFrame({"user_id": [str(number) for number in range(100_000)]})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(DataError, match=r"Cannot write .*File too large"):
            write_table(table, tmp_path / f"all.{ending}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []
