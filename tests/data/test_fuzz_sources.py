"""Whatever bytes a file holds, a reader gives tables or a DataError."""

from __future__ import annotations

import contextlib
import gzip
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from laserrec.data.options import ReadOptions
from laserrec.data.prepare import PrepareOptions, prepare
from laserrec.data.sources import Format, read_source
from laserrec.errors import DataError

_WORDS = b"user_id item_id timestamp item_id_list title :token :: null nan 0 1 - 1500000000 2017-07-14 { } [ ] : ' | , PAR1".split()
_PIECES = [
    *_WORDS, b"\t", b"\n", b"\r\n", b"\r", b" ", b"\0", b'"', b'""', b"\xff", b"\xc3", b"\xc3\xa9", b"\xef\xbb\xbf", b"\xff\xfe",
    b"\x1f\x8b", b'"user_id": "u"', b'"item_id"', b'"asin"', b'"reviewerID"', b'"unixReviewTime"', b"\\ud800",
]  # fmt: skip
SOUP = st.one_of(st.binary(max_size=120), st.lists(st.sampled_from(_PIECES), max_size=60).map(b"".join))
HEADERS = {
    "log.csv": b"user_id,item_id,timestamp\n",
    "items.csv": b"item_id,title\n",
    "log.tsv": b"user_id\titem_id\ttimestamp\n",
    "log.jsonl": b'{"user_id": "u", "item_id": "i", "timestamp": 1}\n',
    "log.parquet": b"PAR1",
    "u.data": b"1\t2\t3\t4\n",
    "u.item": b"",
    "ratings.dat": b"1::2::3::4\n",
    "movies.dat": b"",
    "x.inter": b"user_id:token\titem_id:token\ttimestamp:float\n",
    "x.item": b"item_id:token\ttitle:token_seq\n",
    "x.train.inter": b"user_id:token\titem_id_list:token_seq\titem_id:token\n",
    "x.valid.inter": b"user_id:token\titem_id_list:token_seq\titem_id:token\n",
    "x.test.inter": b"user_id:token\titem_id_list:token_seq\titem_id:token\n",
    "x.text": b"item_id:token\ttext:token_seq\n",
    "x.item2index": b"a\t0\nb\t1\n",
    "reviews.json": b'{"reviewerID": "u", "asin": "i", "unixReviewTime": 1}\n',
    "meta_reviews.json": b"{'asin': 'i'}\n",
    "train.json": b'{"0": [1, 2]',
    "val.json": b'{"0": [1]',
    "test.json": b'{"0": [1]',
    "meta_data.json": b'{"a": {"title": "t"}',
    "smap.json": b'{"a": 1',
}
SETS: list[tuple[Format, list[str]]] = [
    ("table", ["log.csv"]),
    ("table", ["log.csv", "items.csv"]),
    ("table", ["log.tsv"]),
    ("table", ["log.jsonl"]),
    ("table", ["log.parquet"]),
    ("movielens", ["u.data", "u.item"]),
    ("movielens", ["ratings.dat", "movies.dat"]),
    ("recbole", ["x.inter", "x.item"]),
    ("recbole", ["x.train.inter", "x.valid.inter", "x.test.inter", "x.text", "x.item2index"]),
    ("amazon", ["reviews.json", "meta_reviews.json"]),
    ("recformer", ["train.json", "val.json", "test.json", "meta_data.json", "smap.json"]),
]


@pytest.mark.parametrize(("form", "files"), SETS, ids=lambda value: value if isinstance(value, str) else value[0])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_give_tables_or_a_data_error(
    form: Format, files: list[str], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    for name in files:
        start = HEADERS[name] if data.draw(st.booleans()) else b""
        content = start + data.draw(SOUP) + (b"}" if start.startswith(b"{") and name.endswith("n") and b"\n" not in start else b"")
        (folder / name).write_bytes(gzip.compress(content) if data.draw(st.integers(0, 9)) == 0 else content)
    try:
        raw = read_source(folder, form, ReadOptions())
    except DataError:
        return
    assert raw.interactions.null_count().sum_horizontal().item() == 0
    assert raw.interactions.height + len(raw.problems) <= raw.rows or form in {"recbole", "recformer"}
    assert raw.items["item_id"].is_unique().all()
    try:
        dataset, _ = prepare(folder, PrepareOptions(format=form, min_user=1, min_item=1, max_bad_share=1.0))
    except DataError:
        return
    dataset.save(folder / "out")


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1, max_size=12).filter(
    lambda text: text.strip() == text and bool(text)
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(CELLS, CELLS, st.integers(0, 2_000_000_000)), min_size=1, max_size=12), bom=st.booleans())
def test_whatever_is_quoted_comes_back(rows: list[tuple[str, str, int]], bom: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    source = tmp_path_factory.mktemp("quoted") / "log.csv"

    def quoted(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    body = "".join(f"{quoted(user)},{quoted(item)},{when}\n" for user, item, when in rows)
    damaged = "broken\n"  # sends the file through the exact reader
    for end in ("", damaged):
        source.write_bytes((b"\xef\xbb\xbf" if bom else b"") + ("user,item,time\n" + body + end).encode())
        raw = read_source(source, None, ReadOptions(null_marks=()))
        assert raw.interactions.rows() == [(user, item, when * 1_000_000) for user, item, when in rows]
        assert len(raw.problems) == bool(end)


def test_a_truncated_gzip_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(b"user,item,time\n" + b"u,i,1\n" * 5000)
    (tmp_path / "log.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"log.csv.gz cannot be read"):
        read_source(tmp_path / "log.csv.gz", None, ReadOptions())


def test_a_damaged_parquet_file_is_refused_even_where_polars_would_end_the_process(tmp_path: Path) -> None:
    source = tmp_path / "log.parquet"
    users, items = [f"u{row % 9}" for row in range(300)], [f"i{row % 7}" for row in range(300)]
    pl.DataFrame({"user": users, "item": items, "time": range(300)}).write_parquet(source)
    whole = source.read_bytes()
    for start in range(4, 80, 12):
        source.write_bytes(whole[:start] + b"\xff" * 12 + whole[start + 12 :])
        with contextlib.suppress(DataError):
            read_source(source, None, ReadOptions())
