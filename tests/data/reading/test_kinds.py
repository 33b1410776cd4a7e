"""Shapes that tables of people have, each with what is right."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laserrec.data.options import ReadOptions
from laserrec.data.sources import read_source

HEADER = "user,item,time\n"
BERLIN = [("a", 1_572_136_200), ("b", 1_572_139_800)]  # the two moments of 2019-10-27 02:30, an hour apart


def read(path: Path) -> tuple[list[tuple[str, str, int]], list[str]]:
    """Return (user, item, microseconds) of the events, and the bad rows."""
    raw = read_source(path, None, ReadOptions())
    return raw.interactions.select("user_id", "item_id", "timestamp").rows(), [str(bad) for bad in raw.problems]


TEXT: dict[str, tuple[str, bytes, list[tuple[str, str, int]], list[str]]] = {
    "doubled quotes at the end of a field": (
        "log.csv",
        (HEADER[:-1] + ',note\nu,i,1,"he said ""24"""""" inch"""\nu,j,2,"a ""b"", c"\n').encode(),
        [("u", "i", 1), ("u", "j", 2)],
        [],
    ),
    "semicolons, decimal commas and inch marks": (
        "log.csv",
        b'user;item;time;price;size\nu;i;1;3,50;24"\nu;j;2;2,10;8"\n',
        [("u", "i", 1), ("u", "j", 2)],
        [],
    ),
    "lines that end in CR alone, and a quoted one": (
        "log.csv",
        b'user,item,time,note\ru,i,1,"a\rb"\ru,j,2,c\r',
        [("u", "i", 1), ("u", "j", 2)],
        [],
    ),
    "one name of a column twice but for capitals": ("log.csv", b"user,item,time,User\nu,i,1,v\n", [("u", "i", 1)], []),
    "a separator at the end of each line": ("log.csv", b"user,item,time,\nu,i,1,\nu,j,2,\n", [("u", "i", 1), ("u", "j", 2)], []),
    "a separator at the end of rows alone": (
        "log.csv",
        b"user,item,time\nu,i,1,\nu,j,2\n",
        [("u", "j", 2)],
        ["log.csv:2: 4 columns instead of 3"],
    ),
    "a decimal of a database and an integer": (
        "log.csv",
        b"user,item,time\n7.00,a,1\n7,b,2\n9007199254740993.00,c,3\n",
        [("7", "a", 1), ("7", "b", 2)],
        ["log.csv:4: the user id is the float '9007199254740993.00'; as a float it may have lost digits"],
    ),
    "keys that occur twice, at any depth": (
        "log.jsonl",
        b'{"user":"u","user":"v","item":"i","time":1}\n{"user":"u","item":"i","time":2,"m":{"a":1,"a":2}}\n{"user":"u","item":"j","time":3}\n',
        [("u", "j", 3)],
        ["log.jsonl:1: the key 'user' occurs twice", "log.jsonl:2: the key 'a' occurs twice"],
    ),
    "the hour that a clock shows twice": (
        "log.csv",
        b"user,item,time\nu,a,2019-10-27T02:30:00+02:00[Europe/Berlin]\nu,b,2019-10-27T02:30:00+01:00[Europe/Berlin]\n",
        [("u", *moment) for moment in BERLIN],
        [],
    ),
}


@pytest.mark.parametrize("kind", TEXT)
def test_text(tmp_path: Path, kind: str) -> None:
    name, content, expected, bad = TEXT[kind]
    (tmp_path / name).write_bytes(content)
    assert read(tmp_path / name) == ([(user, item, seconds * 10**6) for user, item, seconds in expected], bad)


def of(users: object, items: object, times: object) -> pa.Table:
    return pa.table({"user": users, "item": items, "time": times})


NAMED = [datetime.datetime.fromtimestamp(seconds, datetime.UTC) for _, seconds in BERLIN]
PARQUET: dict[str, tuple[Callable[[], pa.Table], list[tuple[str, str, int]], int]] = {
    "identifiers beyond what a float holds": (
        lambda: of([2**53 + 1], [2**63 - 1], [1]),
        [("9007199254740993", "9223372036854775807", 10**6)],
        0,
    ),
    "floats beyond what they tell apart": (
        lambda: of([2.0**53, 2.0**53 - 1], [1.0, 2.5], [1, 2]),
        [("9007199254740991", "2.5", 2 * 10**6)],
        1,
    ),
    "decimals": (lambda: of([Decimal("9007199254740993.00")], [Decimal("1.50")], [1]), [("9007199254740993", "1.5", 10**6)], 0),
    "lists": (lambda: of(["u"], [["a", "b"]], [1]), [], 1),
    "dictionaries": (
        lambda: of(pa.array(["u", "v"]).dictionary_encode(), pa.array([1, 2]).dictionary_encode(), [1, 2]),
        [("u", "1", 10**6), ("v", "2", 2 * 10**6)],
        0,
    ),
    "a named zone": (
        lambda: of(["u", "u"], ["a", "b"], pa.array(NAMED, pa.timestamp("us", "Europe/Berlin"))),
        [("u", item, seconds * 10**6) for item, seconds in BERLIN],
        0,
    ),
    "the last nanosecond": (lambda: of(["u"], ["a"], pa.array([2**63 - 1], pa.timestamp("ns"))), [("u", "a", 9_223_372_036_854_775)], 0),
    "milliseconds beyond the calendar": (
        lambda: of(["u", "v"], ["a", "b"], pa.array([2**60, 5], pa.timestamp("ms"))),
        [("v", "b", 5_000)],
        1,
    ),
    "days beyond the calendar": (lambda: of(["u", "v"], ["a", "b"], pa.array([0, 2**30], pa.date32())), [("u", "a", 0)], 1),
}


@pytest.mark.parametrize("kind", PARQUET)
def test_parquet(tmp_path: Path, kind: str) -> None:
    table, expected, bad = PARQUET[kind]
    pq.write_table(table(), tmp_path / "log.parquet")
    events, problems = read(tmp_path / "log.parquet")
    assert (events, len(problems)) == (expected, bad)


def test_categories(tmp_path: Path) -> None:
    users = pl.Series(["u", None, "v"], dtype=pl.Categorical)
    items = pl.Series(["a", "b", "NA"], dtype=pl.Enum(["a", "b", "NA"]))
    pl.DataFrame({"user": users, "item": items, "time": [1, 2, 3]}).write_parquet(tmp_path / "log.parquet")
    assert read(tmp_path / "log.parquet") == (
        [("u", "a", 10**6)],
        ["log.parquet:2: no user id", "log.parquet:3: the item id is 'NA', which stands for a missing value"],
    )
