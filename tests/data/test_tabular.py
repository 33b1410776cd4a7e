from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laserrec.data.options import ReadOptions
from laserrec.data.prepare import PrepareOptions, prepare
from laserrec.data.sources import read_source
from laserrec.errors import BadRowsError, DataError


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def events(raw_interactions: pl.DataFrame) -> list[tuple[str, str, int]]:
    return raw_interactions.select("user_id", "item_id", pl.col("timestamp") // 1_000_000).rows()


def test_reads_quotes_line_ends_and_other_alphabets(tmp_path: Path) -> None:
    write(tmp_path / "log.csv", '\ufeffcustomer,sku,when\r\nzoë,"a,1",10\r\n"müller ""m""",b,11\r\n')
    write(tmp_path / "items.csv", 'sku,title,brand\n"a,1","Lamp\n""small""",Ünï\nb,,\nc,椅子,\n')
    raw = read_source(tmp_path, None, ReadOptions())
    assert events(raw.interactions) == [("zoë", "a,1", 10), ('müller "m"', "b", 11)]
    assert raw.items.rows() == [("a,1", 'Lamp "small"', "Ünï"), ("b", None, None), ("c", "椅子", None)]
    assert raw.problems == ()
    assert raw.rows == 5
    assert raw.columns == {"user": "customer", "item": "sku", "time": "when", "item id": "sku", "title": "title", "attributes": "brand"}


def test_characters_that_were_written_for_html_are_read(tmp_path: Path) -> None:
    write(tmp_path / "log.csv", "user,item,time\nu,a,1\n")
    titles = {
        "Velcro&reg; 2&rdquo; wide": "Velcro® 2” wide",
        "AT&T, R&amp;D": "AT&T, R&D",
        "&amp;lt;b&#62; &#x2122;": "&lt;b> ™",  # a single time
        "a&nbsp;&nbsp;b &#10; c": "a b c",
        "&nbsp;": None,
        "&notebook; &not &; &unknown;": "&notebook; &not &; &unknown;",  # none of them means anything
    }
    rows = [f'{item},"{title}"\n' for item, title in zip("abcdef", titles, strict=True)]
    write(tmp_path / "items.csv", "item,title\n" + "".join(rows))
    assert read_source(tmp_path, None, ReadOptions()).items["title"].to_list() == list(titles.values())


def test_bad_rows_have_the_line_they_start_at(tmp_path: Path) -> None:
    lines = [
        "user,item,time,note",
        "u1,a,1,x",
        'u2,b,2,"two',
        'lines"',
        "u3,c",
        ",d,4,x",
        "u5,,5,x",
        "u6,f,soon,x",
        "u7,g,7,x,y",
        'u8,h,8,"x"y',
        "u9,i,9,z",
    ]
    raw = read_source(write(tmp_path / "log.csv", "\n".join(lines) + "\n"), None, ReadOptions())
    assert events(raw.interactions) == [("u1", "a", 1), ("u2", "b", 2), ("u9", "i", 9)]
    assert raw.rows == 9
    reasons = {problem.line: problem.reason for problem in raw.problems}
    assert sorted(reasons) == [5, 6, 7, 8, 9, 10]
    assert reasons[5] == "2 columns instead of 4"
    assert reasons[6] == "no user id"
    assert reasons[7] == "no item id"
    assert reasons[8].startswith("the time 'soon' is not a number")
    assert reasons[9] == "5 columns instead of 4"
    assert reasons[10].startswith("malformed")


def test_a_quote_never_closed_costs_one_row(tmp_path: Path) -> None:
    rows = [f"u{n},i{n},{n}" for n in range(1, 200)]
    rows[50] = 'u51,"i51,51'
    raw = read_source(write(tmp_path / "log.csv", "user,item,time\n" + "\n".join(rows) + "\n"), None, ReadOptions())
    assert len(raw.interactions) == 198
    assert [(problem.file, problem.line) for problem in raw.problems] == [("log.csv", 52)]


def test_too_many_bad_rows_stop_the_run(tmp_path: Path) -> None:
    good = "".join(f"u{n % 3},i{n % 4},{n}\n" for n in range(98))
    source = write(tmp_path / "log.csv", "user,item,time\n" + good + ",x,1\nu,x,never\n")
    with pytest.raises(BadRowsError, match=r"2 of 100 rows \(2.0%\)") as caught:
        prepare(source)
    assert "log.csv:100: no user id" in str(caught.value)
    assert "log.csv:101: the time 'never'" in str(caught.value)
    _, summary = prepare(source, PrepareOptions(max_bad_share=0.02))
    assert (summary.rows, summary.bad_rows, summary.interactions) == (100, 2, 98)


def test_latin_1_is_refused_with_the_line_and_read_when_named(tmp_path: Path) -> None:
    source = write(tmp_path / "log.csv", "user,item,time\nann,lamp,1\nzoë,lamp,2\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"log.csv:3: not utf-8: byte 0xeb .*encoding, for example latin-1"):
        read_source(source, None, ReadOptions())
    assert events(read_source(source, None, ReadOptions(encoding="latin-1")).interactions)[1] == ("zoë", "lamp", 2)


def test_utf_16_is_named(tmp_path: Path) -> None:
    source = write(tmp_path / "log.csv", "user,item,time\nzoë,lamp,2\n".encode("utf-16"))
    with pytest.raises(DataError, match="Give the encoding utf-16"):
        read_source(source, None, ReadOptions())
    assert events(read_source(source, None, ReadOptions(encoding="utf-16")).interactions) == [("zoë", "lamp", 2)]


@pytest.mark.parametrize("encoding", ["klingon", "hex", "undefined"])
def test_unknown_encodings_are_refused(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(DataError, match="is none of text"):
        read_source(write(tmp_path / "log.csv", "user,item,time\na,b,1\n"), None, ReadOptions(encoding=encoding))


@pytest.mark.parametrize(("delimiter", "ending"), [(";", "csv"), ("\t", "csv"), ("|", "csv"), ("\t", "tsv")])
def test_finds_the_delimiter(tmp_path: Path, delimiter: str, ending: str) -> None:
    source = write(tmp_path / f"log.{ending}", "user,item,time\nu,i,3\n".replace(",", delimiter))
    assert events(read_source(source, None, ReadOptions()).interactions) == [("u", "i", 3)]


def test_columns_that_cannot_be_told_are_listed(tmp_path: Path) -> None:
    source = write(tmp_path / "log.csv", "who,thing,then\nu,i,3\n")
    with pytest.raises(DataError, match=r"which column is the user; it has 'who', 'thing', 'then'.*Name it"):
        read_source(source, None, ReadOptions())
    with pytest.raises(DataError, match="no column 'whom'"):
        read_source(source, None, ReadOptions(user="whom"))
    with pytest.raises(DataError, match=r"which column is the time.*in order already"):
        read_source(source, None, ReadOptions(user="who", item="thing"))
    assert events(read_source(source, None, ReadOptions(user="who", item="thing", time="then")).interactions) == [("u", "i", 3)]
    assert events(read_source(source, None, ReadOptions(user="who", item="thing", file_order=True)).interactions) == [("u", "i", 0)]


def test_json_lines_parquet_and_gzip_give_the_same(tmp_path: Path) -> None:
    rows = [{"user_id": "u", "item_id": 7, "timestamp": 1.5e9}, {"user_id": "v", "item_id": 8, "timestamp": 1.6e9}]
    text = "\n".join(json.dumps(row) for row in rows)
    sources = [
        write(tmp_path / "a.jsonl", text),
        write(tmp_path / "b.jsonl.gz", gzip.compress(text.encode())),
        write(tmp_path / "c.csv.gz", gzip.compress(b"user_id,item_id,timestamp\nu,7,1500000000\nv,8,1600000000\n")),
        tmp_path / "d.parquet",
        tmp_path / "e.parquet",
    ]
    pl.DataFrame(rows).write_parquet(sources[3])
    pl.DataFrame(rows).with_columns(pl.from_epoch(pl.col("timestamp").cast(pl.Int64))).write_parquet(sources[4])
    for source in sources:
        assert events(read_source(source, None, ReadOptions()).interactions) == [("u", "7", 1_500_000_000), ("v", "8", 1_600_000_000)]


def test_bad_json_lines_are_reported(tmp_path: Path) -> None:
    source = write(tmp_path / "log.jsonl", '{"user":"u","item":"i","time":1}\n{oops\n[1]\n{"user":"u","item":"j"}\n')
    raw = read_source(source, None, ReadOptions())
    assert len(raw.interactions) == 1
    assert [problem.line for problem in sorted(raw.problems, key=lambda problem: problem.line)] == [2, 3, 4]


def test_an_item_that_occurs_twice_with_other_words_is_reported(tmp_path: Path) -> None:
    write(tmp_path / "log.csv", "user,item,time\nu,a,1\n")
    write(tmp_path / "items.csv", "item,title\na,One\na,One\na,Two\n")
    raw = read_source(tmp_path, None, ReadOptions())
    assert raw.items.rows() == [("a", "One")]
    assert [str(problem) for problem in raw.problems] == ["items.csv:4: the item id 'a' occurred before"]
    assert raw.notes == ("items.csv: 1 rows that repeat another were dropped",)


def test_two_tables_of_events_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "user,item,time\nu,a,1\n")
    write(tmp_path / "b.csv", "user,item,time\nu,a,1\n")
    with pytest.raises(DataError, match=r"found a.csv, b.csv"):
        read_source(tmp_path, None, ReadOptions())


def test_a_column_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'item' more than once"):
        read_source(write(tmp_path / "a.csv", "user,item,item,time\nu,a,b,1\n"), None, ReadOptions())


CELLS = st.one_of(
    st.integers(-(10**19), 10**19).map(str),
    st.sampled_from(
        [
            "",
            " 5",
            "5 ",
            "+5",
            "007",
            "5.0",
            "1e9",
            "-0",
            "'5'",
            "2017-07-14",
            "null",
            "nan",
            "\u00a05",
            "\u0663",
            "15000000000",
            "1500000000123",
        ]
    ),
)


@settings(max_examples=100, deadline=None)
@given(cells=st.lists(CELLS, min_size=1, max_size=6))
def test_moments_are_the_same_read_as_numbers_and_row_by_row(cells: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("moments")
    body = "user,item,time\n" + "".join(f"u,i{number},{cell}\n" for number, cell in enumerate(cells))
    fast = read_source(write(folder / "a.csv", body), None, ReadOptions())
    slow = read_source(write(folder / "b.csv", body + "v,j\n"), None, ReadOptions())  # the short row sends it through the exact reader
    assert fast.interactions.equals(slow.interactions)
    assert [(problem.line, problem.reason) for problem in fast.problems] == [
        (problem.line, problem.reason) for problem in slow.problems[:-1]
    ]


def test_a_time_format_is_applied_to_digits(tmp_path: Path) -> None:
    source = write(tmp_path / "log.csv", "user,item,time\nu,i,20170714\n")
    assert events(read_source(source, None, ReadOptions(time_format="%Y%m%d")).interactions) == [("u", "i", 1_499_990_400)]


def test_a_time_format_is_applied_to_whole_numbers_and_refused_for_dates(tmp_path: Path) -> None:
    table = pl.DataFrame({"user": ["u"], "item": ["i"], "time": [20170714]})
    table.write_parquet(tmp_path / "log.parquet")
    assert events(read_source(tmp_path / "log.parquet", None, ReadOptions(time_format="%Y%m%d")).interactions) == [
        ("u", "i", 1_499_990_400)
    ]
    table.with_columns(pl.date(2017, 7, 14).alias("time")).write_parquet(tmp_path / "dates.parquet")
    with pytest.raises(DataError, match="'%Y' says how a text is read; the times are of type Date already"):
        read_source(tmp_path / "dates.parquet", None, ReadOptions(time_format="%Y"))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (ReadOptions(file_order=True, time="time"), "time would be ignored: with file_order there are no moments"),
        (ReadOptions(file_order=True, time_format="%Y"), "time_format would be ignored: with file_order there are no moments"),
        (
            ReadOptions(title="title", attributes=("brand",)),
            "title, attributes would be ignored: there is no table of items",
        ),
        (ReadOptions(delimiter=";"), "delimiter would be ignored: log.parquet is no such text file"),
        (ReadOptions(encoding="latin-1"), "encoding would be ignored: log.parquet is no such text file"),
    ],
)
def test_options_that_say_nothing_about_a_table_are_refused(tmp_path: Path, options: ReadOptions, reason: str) -> None:
    pl.DataFrame({"user": ["u"], "item": ["i"], "time": [1]}).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match=reason):
        read_source(tmp_path / "log.parquet", None, options)


def test_white_space_around_ids_is_taken_off_and_blank_ids_are_reported(tmp_path: Path) -> None:
    source = write(tmp_path / "log.csv", 'user,item,time\nu ,i,1\nu," i",2\n')
    assert events(read_source(source, None, ReadOptions()).interactions) == [("u", "i", 1), ("u", "i", 2)]
    raw = read_source(write(tmp_path / "log.csv", 'user,item,time\nu,i,1\n"  ",i,2\n'), None, ReadOptions())
    assert [str(problem) for problem in raw.problems] == ["log.csv:3: no user id"]
