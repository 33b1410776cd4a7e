"""Tables as people have them: which columns are read, in which order, what is a bad row, and what is advised. Each kind of
`cases/readers` (see `test_shared_cases.py`) with an input written here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from laserrec.data.options import ReadOptions
from laserrec.data.prepare import PrepareOptions, PrepareSummary, prepare
from laserrec.data.raw import RawTables
from laserrec.data.sources import read_source
from laserrec.errors import BadRowsError, DataError


def read(path: Path, content: str, **options: Any) -> RawTables:  # noqa: ANN401
    path.write_text(content, encoding="utf-8")
    return read_source(path, None, ReadOptions(**options))


def items_of(raw: RawTables, user: str) -> list[str]:
    """Return a user's items in order of time."""
    rows = raw.interactions.filter(pl.col("user_id") == user)
    return rows.sort("timestamp", maintain_order=True)["item_id"].to_list()


def advice_on(raw: RawTables | PrepareSummary, option: str) -> list[str]:
    """Return the advice that names an option, as a string."""
    return [str(advice) for advice in raw.advice if option in dict(advice.options)]


# --- ids


def test_lists_of_items_are_bad_rows_or_one_event_an_entry(tmp_path: Path) -> None:
    rows = [
        {"who": "zoe", "basket": ["milk", 7, 2.0], "day": 3},
        {"who": "zoe", "basket": [], "day": 4},
        {"who": "max", "basket": "tea", "day": 5},
    ]
    content = "\n".join(map(json.dumps, rows))
    columns = {"user": "who", "item": "basket", "time": "day"}
    raw = read(tmp_path / "log.jsonl", content, **columns)
    assert raw.interactions.rows() == [("max", "tea", 5_000_000)]
    assert [str(bad) for bad in raw.problems] == ["log.jsonl:1: the item id is a list", "log.jsonl:2: the item id is a list"]
    assert advice_on(raw, "explode") == ["2 rows hold a list of items; read them as one event an entry (explode=item)"]
    raw = read(tmp_path / "log.jsonl", content, **columns, explode="item")
    assert raw.interactions.rows() == [
        ("zoe", "milk", 3_000_000),
        ("zoe", "7", 3_000_000),
        ("zoe", "2", 3_000_000),
        ("max", "tea", 5_000_000),
    ]
    assert [str(bad) for bad in raw.problems] == ["log.jsonl:2: no item id"]


def test_entries_of_lists_that_are_no_ids_are_bad_rows(tmp_path: Path) -> None:
    raw = read(tmp_path / "log.jsonl", json.dumps({"user": "u", "item": ["a", {"sku": 1}, True, None, "b"], "time": 1}), explode="item")
    assert items_of(raw, "u") == ["a", "b"]
    assert [bad.reason for bad in raw.problems] == ["the item id is an object", "the item id is true, a truth value", "no item id"]
    assert ({bad.line for bad in raw.problems}, raw.rows) == ({1}, 5)


def test_floats_match_the_integers_of_the_items_in_every_format(tmp_path: Path) -> None:
    (tmp_path / "things.csv").write_text("sku,title\n11,Axe\n12,Saw\n")
    frame = pl.DataFrame({"user": ["u", "u", "v"], "item": [11.0, 12.0, None], "time": [1, 2, 3]})
    frame.write_csv(tmp_path / "log.csv")
    frame.write_parquet(tmp_path / "log.parquet")
    frame.write_ndjson(tmp_path / "log.jsonl")
    for name in ("log.csv", "log.parquet", "log.jsonl"):
        options = PrepareOptions(min_user=1, min_item=1, max_bad_share=1, read=ReadOptions(items=tmp_path / "things.csv"))
        data, summary = prepare(tmp_path / name, options)
        assert data.attributes() == [{"title": "Axe"}, {"title": "Saw"}]
        assert (summary.bad_rows, summary.advice) == (1, ())


def test_floats_that_merge_users_are_refused_with_the_reason(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": [2.0**53, 2.0**53 + 2, 5.0], "item": ["a", "b", "c"], "time": [1, 2, 3]})
    frame.write_parquet(tmp_path / "log.parquet")
    raw = read_source(tmp_path / "log.parquet", None, ReadOptions())
    assert raw.interactions["user_id"].to_list() == ["5"]
    assert [bad.line for bad in raw.problems] == [1, 2]
    assert "from 2^53 on several whole numbers are the same float" in raw.problems[0].reason


def test_one_loud_line_where_the_logs_items_are_not_in_the_table_of_items(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\n" + "".join(f"u,A-{n},{n}\n" for n in range(20)))
    items = tmp_path / "items.csv"
    options = PrepareOptions(min_user=1, min_item=1, read=ReadOptions(items=items))
    for known, found in ((0, "NONE of the log's 20 items are"), (1, "ONLY 1 of the log's 20 items is")):
        items.write_text("item,title\n" + "".join(f"{'A-' if n < known else ''}{n},Thing\n" for n in range(20)))
        (line,) = advice_on(prepare(tmp_path / "log.csv", options)[1], "item_id")
        assert line.startswith(found)
        assert "'A-0'" in line
    items.write_text("item,title\n" + "".join(f"A-{n},Thing\n" for n in range(2)))
    assert not advice_on(prepare(tmp_path / "log.csv", options)[1], "item_id")


def test_null_marks_are_no_users_and_a_filled_column_is_suggested(tmp_path: Path) -> None:
    content = "visit,customerId,sku,when\n1,NULL,a,1\n1,NULL,b,2\n2,NULL,a,3\n3,kim,c,4\n"
    raw = read(tmp_path / "log.csv", content)
    assert raw.interactions["user_id"].to_list() == ["kim"]
    assert advice_on(raw, "user") == []  # no other column looks like users
    assert advice_on(raw, "null_marks") == [
        "3 ids such as 'NULL' stand for a missing value; if they are ids, read them as such (null_marks=none)"
    ]
    raw = read(tmp_path / "log.csv", content.replace("visit", "session"))
    assert advice_on(raw, "user") == ["3 rows have no 'customerId', and all of them have 'session'; read that as the user (user=session)"]
    assert read(tmp_path / "log.csv", content, null_marks=()).interactions["user_id"].to_list() == ["NULL", "NULL", "NULL", "kim"]
    with pytest.raises(BadRowsError, match="user=session"):
        prepare(tmp_path / "log.csv" if read(tmp_path / "log.csv", content.replace("visit", "session")) else tmp_path)


# --- time


@pytest.mark.parametrize(
    ("header", "rows", "chosen", "order"),
    [
        ("date,event_time", ["2020-01-01,2020-01-01T12:00:01", "2020-01-01,2020-01-01T12:00:00"], "event_time", "ba"),
        ("timestamp,created_at", ["1500000000,2017-07-14T02:40:00.2", "1500000000,2017-07-14T02:40:00.1"], "created_at", "ba"),
        ("created_at,timestamp", ["2017-07-14,1500000001", "2017-07-14,1500000000"], "timestamp", "ba"),
        ("time,timestamp", ["1500000000,1400000001", "1500000001,1400000000"], "timestamp", "ba"),  # as fine: the more usual name
        ("date,time", ["2020-01-02,0001", "2020-01-01,2359"], "date and time", "ba"),
        ("date,time", ["2020-01-01,18:30", "2020-01-01,9:15"], "date and time", "ba"),
        ("date,time", ["2020-01-01,1500000001", "2020-01-01,1500000000"], "time", "ba"),  # seconds since 1970, finer than days
        ("order_date,hour", ["2020-01-01,17", "2020-01-01,9"], "order_date and hour", "ba"),
        ("eventdate,timeframe", ["2020-01-01,9000123", "2020-01-01,75"], "eventdate and timeframe", "ba"),
        ("date,ts", ["2020-01-02,", "2020-01-01,1500000000"], "date", "ba"),  # a column with gaps is not usable
        ("date,ts", ["2020-01-02,x", "2020-01-01,y"], "date", "ba"),
        ("timestamp,time", ["2,1", "1,2"], "timestamp", "ba"),
    ],
)
def test_the_finest_usable_time_is_read_and_named(tmp_path: Path, header: str, rows: list[str], chosen: str, order: str) -> None:
    raw = read(tmp_path / "log.csv", f"user,item,{header}\nu,a,{rows[0]}\nu,b,{rows[1]}\n")
    assert raw.columns["time"] == chosen
    assert "".join(items_of(raw, "u")) == order
    assert raw.problems == ()
    assert all(repr(name) in " ".join(raw.notes) for name in chosen.split(" and "))


def test_a_day_and_its_clock_are_one_moment(tmp_path: Path) -> None:
    raw = read(tmp_path / "log.csv", "user,item,date,time\nu,a,1970-01-02,0130\n")
    assert raw.interactions["timestamp"].to_list() == [(86_400 + 90 * 60) * 1_000_000]
    content = "user,item,tag,uhr\nu,a,02.01.1970,01:30\nu,b,02.01.1970,soon\n"
    raw = read(tmp_path / "log.csv", content, time="tag", clock="uhr", time_format="%d.%m.%Y")
    assert raw.interactions["timestamp"].to_list() == [(86_400 + 90 * 60) * 1_000_000]
    assert raw.problems[0].reason.startswith("the time '02.01.1970 soon' is not")
    with pytest.raises(DataError, match="no column 'clock' \\(from clock\\)"):
        read(tmp_path / "log.csv", content, time="tag", clock="clock")


def test_the_column_that_was_named_is_read_however_coarse(tmp_path: Path) -> None:
    raw = read(tmp_path / "log.csv", "user,item,date,ts\nu,a,2020-01-02,5\nu,b,2020-01-01,6\n", time="date")
    assert raw.columns["time"] == "date"
    assert raw.ignored == {"log.csv": ("ts",)}


def test_typed_days_and_clocks(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": ["u"], "item": ["i"]}).with_columns(pl.date(1970, 1, 2).alias("date"), pl.time(1, 30).alias("time"))
    frame.write_parquet(tmp_path / "log.parquet")
    raw = read_source(tmp_path / "log.parquet", None, ReadOptions())
    assert raw.interactions.rows() == [("u", "i", (86_400 + 90 * 60) * 1_000_000)]


def test_named_zones_are_read_and_unread_times_name_the_format(tmp_path: Path) -> None:
    raw = read(tmp_path / "log.csv", "user,item,at\nu,a,2019-11-01 00:00:00 UTC\nu,b,2019-10-31 23:59:59 GMT\n")
    assert items_of(raw, "u") == ["b", "a"]
    read(tmp_path / "log.csv", "user,item,at\n" + "u,a,1/2/2020\n" * 3)
    with pytest.raises(BadRowsError, match=r"3 moments such as '1/2/2020' could not be read.*time_format='%d\.%m\.%Y %H:%M'"):
        prepare(tmp_path / "log.csv")


def test_moments_outside_the_calendar_are_bad_rows_and_move_nobody(tmp_path: Path) -> None:
    moments = pl.Series([2**63 - 1, 1_000, -(2**63), 2_000], dtype=pl.Int64)
    for unit in ("ms", "us"):
        frame = pl.DataFrame({"user": ["u", "u", "v", "v"], "item": list("abcd"), "time": moments.cast(pl.Datetime(unit))})  # type: ignore[arg-type]
        frame.write_parquet(tmp_path / "log.parquet")
        data, summary = prepare(tmp_path / "log.parquet", PrepareOptions(min_user=1, min_item=1, max_bad_share=1))
        assert data.interactions.select("user_id", "item_id").rows() == [("u", "b"), ("v", "d")]
        assert [bad.line for bad in summary.problems] == [1, 3]
        assert "years 1 to 9999" in summary.problems[0].reason


# --- columns


def test_every_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "things.csv").write_text("id,name,size,Unnamed: 0\ni,Axe,L,0\n")
    content = "user,item,time,rating,event_type,device\nu,i,1,5,view,phone\n"
    raw = read(tmp_path / "log.csv", content, items=tmp_path / "things.csv", attributes=())
    assert raw.columns == {"user": "user", "item": "item", "time": "time", "item id": "id", "title": "name", "attributes": "none"}
    assert raw.ignored == {"log.csv": ("rating", "event_type", "device"), "things.csv": ("size", "Unnamed: 0")}
    assert advice_on(raw, "min_rating") == [
        "log.csv: every row is an event whatever its 'rating' is; keep those that were liked (min_rating=4)"
    ]
    assert advice_on(raw, "keep") == [
        "log.csv: every row is an event whatever its 'event_type' is; keep those of one kind (keep=event_type=VALUE)"
    ]


EVENTS = "user,item,time,rating,event_type\nu,a,1,5,view\nu,b,2,4.5,purchase\nu,c,3,3,purchase\nv,d,4,,cart\nv,e,5,5,purchase \n"


@pytest.mark.parametrize(
    ("options", "items", "left_out", "bad"),
    [
        ({"keep": ("event_type=purchase",)}, "bce", 2, 0),
        ({"keep": ("event_type=purchase,cart",)}, "bcde", 1, 0),
        ({"keep": ("event_type=view", "event_type=cart")}, "ad", 3, 0),
        ({"keep": ("event_type=purchase", "user=u")}, "bc", 3, 0),
        ({"min_rating": 4.0}, "abe", 1, 1),
        ({"min_rating": 5.0, "keep": ("event_type=purchase",)}, "e", 4, 0),
        ({"keep": ("rating=5",)}, "ae", 3, 0),
    ],
)
def test_events_are_kept_by_their_values_and_counted(tmp_path: Path, options: dict[str, Any], items: str, left_out: int, bad: int) -> None:
    raw = read(tmp_path / "log.csv", EVENTS, **options)
    assert "".join(raw.interactions["item_id"]) == items
    assert (raw.left_out, len(raw.problems), raw.rows) == (left_out, bad, 5)
    assert len(raw.interactions) + raw.left_out + len(raw.problems) == raw.rows
    if bad:
        assert str(raw.problems[0]) == "log.csv:5: the rating 'None' is not a number"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": ("kind=view",)}, r"no column 'kind' \(from keep\)"),
        ({"keep": ("event_type",)}, r"expected is COLUMN=VALUE"),
        ({"keep": ("event_type=buy",)}, r"never holds 'buy'; it holds 'purchase', "),
    ],
)
def test_conditions_that_cannot_be_met_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path / "log.csv", EVENTS, **options)


def test_a_lowest_rating_needs_a_rating(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot tell which column is the rating"):
        read(tmp_path / "log.csv", "user,item,time\nu,a,1\n", min_rating=4.0)


def test_names_that_differ_stay_different_and_indexes_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("Unnamed: 0,user,item,time\n0,u,i,1\n")
    (tmp_path / "items.csv").write_text(
        ",item,meta.title,meta.brand,meta:brand,brand:token,brand:token_seq,timestamp,Unnamed: 0.1\n0,i,Axe,A,B,C,D,E,9\n"
    )
    raw = read_source(tmp_path, None, ReadOptions())
    assert raw.items.to_dicts() == [
        {
            **{"item_id": "i", "title": "Axe", "meta.brand": "A", "meta:brand": "B"},
            **{"brand:token": "C", "brand:token_seq": "D", "timestamp_": "E"},
        }
    ]
    assert raw.ignored == {"log.csv": ("Unnamed: 0",), "items.csv": ("Unnamed: 0.1",)}
    assert any("without a name" in note for note in raw.notes)


# --- what is said


def test_a_core_that_costs_much_says_so(tmp_path: Path) -> None:
    busy = "".join(f"u{n % 5},i{n % 5 * 3 % 5 + n // 25},{n}\n" for n in range(50))
    rare = "".join(f"w{n},j{n},{n}\n" for n in range(40))
    (tmp_path / "log.csv").write_text("user,item,time\n" + busy + rare)
    _, summary = prepare(tmp_path / "log.csv")
    (line,) = advice_on(summary, "min_user")
    assert line.startswith(f"{summary.core_dropped:,} of 90 events ({summary.core_dropped / 90:.0%}) were dropped")
    assert line.endswith("(min_user=2, min_item=2)")
    (tmp_path / "log.csv").write_text("user,item,time\n" + busy + rare.partition("w9")[0])
    assert not advice_on(prepare(tmp_path / "log.csv")[1], "min_user")


def test_many_ties_are_said_with_what_orders_them(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\n" + "".join(f"u{n // 10},i{n * 7 % 23},5\n" for n in range(100)))
    options = PrepareOptions(min_user=1, min_item=1)
    data, summary = prepare(tmp_path / "log.csv", options)
    assert (summary.ties, summary.tied) == ("file", 1.0)
    (line,) = advice_on(summary, "ties")
    assert "100% of the events share their moment" in line
    assert "the order of the file" in line
    sorted_rows = sorted((f"u{n // 10}", f"i{n * 7 % 23:02}") for n in range(100))
    (tmp_path / "log.csv").write_text("user,item,time\n" + "".join(f"{user},{item},5\n" for user, item in sorted_rows))
    data, summary = prepare(tmp_path / "log.csv", options)
    assert summary.ties == "hash"
    assert data.manifest["source"]["order"] == {"ties": "hash", "tied": 1.0, "seed": 0}
    first = data.interactions.filter(pl.col("user_id") == "u0")["item_id"].to_list()
    assert first != sorted(first)
    kept, _ = prepare(tmp_path / "log.csv", PrepareOptions(min_user=1, min_item=1, ties="file"))
    assert kept.fingerprint != data.fingerprint


def test_nothing_that_can_be_used_is_refused_with_its_reasons(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\nNA,a,1\nNA,b,2\n")
    with pytest.raises(
        BadRowsError, match=r"2 of 2 rows .*no event is left.*\n.*'NA', which stands for a missing value[\s\S]*null_marks=none"
    ):
        prepare(tmp_path / "log.csv", PrepareOptions(max_bad_share=1.0))


def test_a_clock_is_named_with_or_without_the_type_of_its_field(tmp_path: Path) -> None:
    for name in ("hhmm", "hhmm:token"):
        raw = read(tmp_path / "log.csv", "user:token,item:token,day:token,hhmm:token\nu,a,1970-01-02,0130\n", clock=name)
        assert raw.interactions["timestamp"].to_list() == [(86_400 + 90 * 60) * 1_000_000]


def test_moments_and_the_order_of_the_file_contradict_each_other_in_atomic_files_too(tmp_path: Path) -> None:
    (tmp_path / "a.inter").write_text("user_id:token\titem_id:token\nu\ta\n")
    with pytest.raises(DataError, match="time_format would be ignored: with file_order there are no moments"):
        read_source(tmp_path / "a.inter", None, ReadOptions(file_order=True, time_format="%Y"))
    with pytest.raises(DataError, match="cannot tell which column is the time"):
        read_source(tmp_path / "a.inter", None, ReadOptions(time_format="%Y"))
