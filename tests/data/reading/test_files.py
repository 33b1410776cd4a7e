"""Which files are one table, packed ones, encodings, and limits."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import polars as pl
import pytest

from laserrec.data.options import ReadOptions
from laserrec.data.prepare import PrepareOptions, prepare
from laserrec.data.reading.rows import MOST_LETTERS
from laserrec.data.reading.table import Table
from laserrec.errors import DataError

HEADER = "user,item,time\n"


def test_part_files_of_spark_are_one_table(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    (log / "part-00000-aa.csv").write_text(HEADER + "a,x,1\nb,x,2\n")
    (log / "part-00001-aa.csv").write_text("time,user,item\n3,a,y\n,b,y\n")
    (log / "_SUCCESS").write_text("")
    (log / ".part-00000-aa.csv.crc").write_text("crc")
    data, summary = prepare(log, PrepareOptions(min_user=1, min_item=1, max_bad_share=0.5))
    assert data.interactions.rows() == [("a", "x", 1, "train"), ("a", "y", 3, "train"), ("b", "x", 2, "train")]
    assert [str(problem) for problem in summary.problems] == ["part-00001-aa.csv:3: no time"]
    assert data.name == "log"
    pattern = prepare(str(log / "*.csv"), PrepareOptions(min_user=1, min_item=1, max_bad_share=0.5))[0]
    assert (pattern.fingerprint, pattern.name) == (data.fingerprint, "log")


def test_parts_of_several_types_are_joined_by_their_values(tmp_path: Path) -> None:
    pl.DataFrame({"id": [1, 2], "n": [None, None]}).write_parquet(tmp_path / "part-0.parquet")
    pl.DataFrame({"id": ["x", None], "n": [1.5, 2.0]}).write_parquet(tmp_path / "part-1.parquet")
    rows = Table.open(tmp_path, ReadOptions()).read(["id", "n"])
    assert (rows.frame["id"].to_list(), rows.frame["n"].to_list()) == ([1, 2, "x", None], [None, None, 1.5, 2.0])
    assert (rows.bad_row(3, "r").file, rows.bad_row(3, "r").line) == ("part-1.parquet", 2)


def test_parts_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "part-0.csv").write_text(HEADER + "a,x,1\n")
    (tmp_path / "part-1.csv").write_text("b,y,2\n")
    with pytest.raises(DataError, match=r"only one of them has '2', 'b', 'item'.*each need their header"):
        Table.open(tmp_path, ReadOptions())
    (tmp_path / "day=1").mkdir()
    with pytest.raises(DataError, match="divided into folders such as 'day=1'"):
        Table.open(tmp_path, ReadOptions())


def test_a_file_whose_name_is_a_pattern_is_that_file(tmp_path: Path) -> None:
    for name, user in (("a[1].csv", "u"), ("a1.csv", "v")):
        (tmp_path / name).write_text(f"{HEADER}{user},i,1\n")
    pl.DataFrame({"user": ["w"]}).write_parquet(tmp_path / "p*.parquet")
    assert Table.open(tmp_path / "a[1].csv", ReadOptions()).read(["user"]).frame["user"].to_list() == ["u"]
    assert Table.open(tmp_path / "p*.parquet", ReadOptions()).read(["user"]).frame["user"].to_list() == ["w"]


@pytest.mark.parametrize("name", ["log.csv.zip", "log.zip"])
def test_a_zip_that_holds_one_file(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("__MACOSX/._log.csv", "x")
        archive.writestr("log.csv", HEADER + "a,x,1\n")
    assert Table.open(tmp_path / name, ReadOptions()).read(["item"]).frame["item"].to_list() == ["x"]
    with zipfile.ZipFile(tmp_path / name, "a") as archive:
        archive.writestr("other.csv", "")
    with pytest.raises(DataError, match=r"must hold one file; it holds 2: log.csv, other.csv"):
        Table.open(tmp_path / name, ReadOptions())


def test_what_unpacks_to_far_more_than_usual_is_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "log.csv.gz"
    with gzip.open(bomb, "wb") as stream:
        stream.write(HEADER.encode())
        for _ in range(300):
            stream.write(b"u,i,1\n" * 180_000)
    with pytest.raises(DataError, match=r"log.csv.gz \([\d,]+ bytes\) unpacks to more than 0.25 GiB.*allow more") as caught:
        Table.open(bomb, ReadOptions())
    assert caught.value.parameters == ("max_unpacked_gib",)
    small = tmp_path / "small.csv.gz"
    small.write_bytes(gzip.compress(HEADER.encode() + b"u,i,1\n" * 1000))
    assert Table.open(small, ReadOptions()).read(["user"]).frame.height == 1000
    with pytest.raises(DataError, match=r"unpacks to more than 0\.00 GiB"):
        Table.open(small, ReadOptions(max_unpacked_gib=1e-6))


def test_too_many_columns_are_refused_at_once(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(40_000)]
    (tmp_path / "wide.csv").write_text(",".join(names) + "\n")
    (tmp_path / "wide.jsonl").write_text(json.dumps(dict.fromkeys(names, 1)) + "\n")
    for name in ("wide.csv", "wide.jsonl"):
        with pytest.raises(DataError, match=r"columns or more; at most 10,000 are read"):
            Table.open(tmp_path / name, ReadOptions())


def test_a_value_that_is_too_long_is_a_bad_row_in_every_format(tmp_path: Path) -> None:
    long = "x" * (MOST_LETTERS + 1)
    rows = [{"id": "1", "text": "é" * MOST_LETTERS}, {"id": "2", "text": long}, {"id": "3", "text": None}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "t.csv").write_text("id,text\n" + "".join(f"{row['id']},{row['text'] or ''}\n" for row in rows))
    (tmp_path / "q.csv").write_text("id,text\n" + "".join(f'{row["id"]},"{row["text"] or ""}"\n' for row in rows))
    pl.DataFrame(rows).write_parquet(tmp_path / "t.parquet")
    for name, first in (("t.jsonl", 1), ("t.csv", 2), ("q.csv", 2), ("t.parquet", 1)):
        read = Table.open(tmp_path / name, ReadOptions()).read(["id", "text"])
        assert (read.frame["id"].to_list(), [problem.line for problem in read.bad]) == (["1", "3"], [first + 1])
        assert "a value of" in read.bad[0].reason
        assert [read.bad_row(row, "").line for row in range(read.frame.height)] == [first, first + 2]


@pytest.mark.parametrize("form", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_named(tmp_path: Path, form: str) -> None:
    (tmp_path / "t.csv").write_bytes((HEADER + "zoë,a\u2028b\x0bc\x1cd,1\n").encode(form))
    with pytest.raises(DataError, match=f"looks like UTF-16 without a mark. Give the encoding {form}"):
        Table.open(tmp_path / "t.csv", ReadOptions())
    assert Table.open(tmp_path / "t.csv", ReadOptions(encoding=form)).read(["item"]).frame["item"].to_list() == ["a\u2028b\x0bc\x1cd"]


def test_json_lines_that_cannot_be_used(tmp_path: Path) -> None:
    lines = [
        '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"a": ' + "9" * 5000 + "}",
        '{"a": 1, "a": 2}',
        '{"a": {"b": 1, "b": 2}}',
        "[1]",
        '{"a": NaN}',
        '{"a": 123456789012345678901234567890}',
        '{"a": "\\ud800"}',
        *['{"a": 1}'] * 2000,
        '{"late": true}',
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    table = Table.open(tmp_path / "t.jsonl", ReadOptions())
    rows = table.read(["a", "late"])
    assert table.columns == ["a", "late"]
    reasons = ["nested too deeply", "Exceeds the limit", "the key 'a' occurs twice", "the key 'b' occurs twice", "not a JSON object"]
    assert [problem.line for problem in rows.bad] == [1, 2, 3, 4, 5]
    assert all(problem.reason.startswith(reason) for problem, reason in zip(rows.bad, reasons, strict=True))
    values = rows.frame["a"].to_list()
    assert values[0] != values[0]
    assert values[1:4] == [123456789012345678901234567890, "?", 1]
    assert rows.frame["late"].to_list()[-1] is True


def test_empty_parts_are_passed_over_and_named(tmp_path: Path) -> None:
    (tmp_path / "part-00000.csv").write_bytes(b"")
    (tmp_path / "part-00001.csv.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(DataError, match="is empty"):
        Table.open(tmp_path, ReadOptions())
    (tmp_path / "part-00002.csv.gz").write_bytes(gzip.compress(HEADER.encode() + b"a,x,1\n"))
    (tmp_path / "part-00003.csv").write_text(HEADER)
    table = Table.open(tmp_path, ReadOptions())
    assert table.read(["user", "item", "time"]).frame.rows() == [("a", "x", "1")]
    assert table.notes == ("part-00000.csv is empty", "part-00001.csv.gz is empty")


def test_parts_of_json_may_lack_keys(tmp_path: Path) -> None:
    """Spark leaves out nulls, so a part in which all are null has no such key."""
    (tmp_path / "part-0.json").write_text('{"user": "a", "item": "x", "time": 1}\n')
    (tmp_path / "part-1.json").write_text("")
    (tmp_path / "part-2.json").write_text('{"user": "b", "time": 2, "note": "n"}\n')
    table = Table.open(tmp_path, ReadOptions())
    assert table.columns == ["user", "item", "time", "note"]
    assert table.read(["user", "item", "note"]).frame.rows() == [("a", "x", None), ("b", None, "n")]


def test_a_zip_whose_inner_name_is_no_text_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "log.zip", "w") as archive:
        archive.writestr("log.csv", "user,item\na,b\n")
    content = bytearray((tmp_path / "log.zip").read_bytes())
    content[7] |= 8  # the header in front of the file says that its name, which begins at byte 30, is UTF-8
    content[30] = 0x8F
    (tmp_path / "log.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"log.zip cannot be read: 'utf-8' codec can't decode byte 0x8f"):
        Table.open(tmp_path / "log.zip", ReadOptions())
