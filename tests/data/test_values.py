"""What cells mean: ids and texts, alike in every format and in calls from Python."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laserrec.data.options import ReadOptions
from laserrec.data.reading.memory import Tables
from laserrec.data.sources import read_source
from laserrec.data.values import NULL_MARKS, as_text, attribute_order, ids, item_attributes, texts, why_no_id
from laserrec.errors import DataError

NAN = math.nan


@pytest.mark.parametrize(
    ("value", "expected", "why"),
    [
        ("B1", "B1", None),
        ("  B1\t", "B1", None),
        ("007", "007", None),
        ("7.0", "7", None),
        ("-7.0", "-7", None),
        ("-0.0", "0", None),
        ("1\u0663.0", "1\u0663.0", None),  # digits of another alphabet
        ("7.00", "7", None),  # a decimal of a database, which Parquet would have as one
        ("7.5", "7.5", None),
        ("5e3", "5e3", None),  # a code in hexadecimal, maybe
        ("9007199254740993", "9007199254740993", None),
        ("9007199254740991.0", "9007199254740991", None),
        ("9007199254740992.0", None, "may have lost digits"),
        ("1e+16", None, "may have lost digits"),
        ("1" * 5000 + ".0", None, "may have lost digits"),
        ("4.00639E+12", None, "may have lost digits"),  # a spreadsheet's EAN
        ("", None, "missing"),
        (" \u00a0 ", None, "missing"),
        (None, None, "missing"),
        (NAN, None, "missing"),
        *((mark, None, "stands for a missing value") for mark in ("NA", "NULL", "None", "nan", "NaN", "null", "\\N", "<NA>", " NA ")),
        ("na", "na", None),
        (7, "7", None),
        (10**30, "10" + "0" * 29, None),
        (10**3000, None, "more than a thousand digits"),
        (7.0, "7", None),
        (-0.0, "0", None),
        (7.5, "7.5", None),
        (2.0**53, None, r"2\^53"),
        (-(2.0**60), None, r"2\^53"),
        (math.inf, None, r"2\^53"),
        (True, None, "truth value"),
        (["B1", "B2"], None, "a list"),
        ([], None, "a list"),
        ({"sku": "B2"}, None, "an object"),
        (b" B1", "B1", None),
        (b"NA", None, "stands for a missing value"),
        (b"\xff", None, "bytes that are no text"),
    ],
)
def test_one_id(value: object, expected: str | None, why: str | None) -> None:
    assert ids(pl.Series([value], dtype=pl.Object)).to_list() == [expected]
    found = why_no_id(value)
    assert found is None if why is None else found is not None and pl.Series([found]).str.contains(why).all()
    if value is None or isinstance(value, str):
        assert ids(pl.Series([value], dtype=pl.String)).to_list() == [expected]
    if isinstance(value, float):
        assert ids(pl.Series([value], dtype=pl.Float64)).to_list() == [expected]
    if isinstance(value, bool):
        assert ids(pl.Series([value], dtype=pl.Boolean)).to_list() == [expected]


def test_null_marks_are_a_choice() -> None:
    assert ids(pl.Series(["NA", "-", ""]), ()).to_list() == ["NA", "-", None]
    assert ids(pl.Series(["NA", "-", ""]), ("-",)).to_list() == ["NA", None, None]
    assert why_no_id("NA", ()) is None
    assert why_no_id("-", ("-",)) is not None
    for zeros in (pl.Series([0, 7]), pl.Series([0.0, 7.0]), pl.Series(["0", "7"]), pl.Series([0, 7], dtype=pl.Object)):
        assert ids(zeros, ("0",)).to_list() == [None, "7"]


VALUES = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1, max_size=8),
    st.sampled_from([*NULL_MARKS, "7", "7.0", " 7", "0.0", "-1.0", "1e+16", "", '24"', "a,b", "'"]),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-5, 5),
    st.floats(-1e6, 1e6).map(lambda number: float(round(number, 2))),
    st.integers(-(2**60), 2**60).map(float),
    st.just(NAN),
    st.none(),
)


def plainly(value: object) -> str | None:
    """The rules once more, in Python's words."""
    if value is None or value != value:
        return None
    text = str(value).strip()
    if text in ("", *NULL_MARKS):
        return None
    if not isinstance(value, int) and text.endswith(".0") and text[:-2].removeprefix("-").isdecimal() and text.isascii():
        digits = text[:-2].removeprefix("-")
        if digits == "0" or digits[0] != "0":
            return str(int(text[:-2])) if abs(int(text[:-2])) < 2**53 else None
    if "e+" in text.lower() and text.isascii():
        head, _, tail = text.lower().partition("e+")
        first, dot, rest = head.removeprefix("-").partition(".")
        if len(first) == 1 and first.isdigit() and tail.isdigit() and (rest.isdigit() if dot else not rest):
            return None
    if isinstance(value, float) and abs(value) >= 2**53:
        return None
    return text


@settings(max_examples=150, deadline=None)
@given(values=st.lists(VALUES, min_size=1, max_size=8))
def test_ids_are_the_same_in_every_format(values: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("ids")
    expected = [(name, place * 1_000_000) for place, value in enumerate(values) if (name := plainly(value)) is not None]
    written = io.StringIO()
    table = csv.writer(written, quoting=csv.QUOTE_ALL)
    table.writerow(["user", "item", "time"])
    table.writerows([value, "i", place] for place, value in enumerate(values))
    (folder / "log.csv").write_bytes(written.getvalue().encode())
    lines = (json.dumps({"user": value, "item": "i", "time": place}) for place, value in enumerate(values))
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n")
    for name in ("log.csv", "log.jsonl"):
        raw = read_source(folder / name, None, ReadOptions())
        assert [(user, time) for user, _, time in raw.interactions.rows()] == expected, name
        assert len(raw.problems) == len(values) - len(expected)
        assert [bad.line for bad in raw.problems] == sorted(bad.line for bad in raw.problems)
    kinds = {type(value) for value in values} - {type(None)}
    if len(kinds) == 1:
        frame = pl.DataFrame({"user": values, "item": ["i"] * len(values), "time": range(len(values))})
        assert [(user, time) for user, _, time in read_source(Tables(frame), None, ReadOptions()).interactions.rows()] == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Caf&eacute; &amp; &#8221;", "Café & ”"),
        ("AT&T &notebook; R&amp;amp;D", "AT&T &notebook; R&amp;D"),
        (" two\n  words\u00a0 ", "two words"),
        ("&nbsp;", None),
        ("NaN", None),
        ("\\N", None),
        (1999, "1999"),
        (1999.0, "1999"),
        ("1999.0", "1999"),
        ("Web 2.0", "Web 2.0"),
        (2.5, "2.5"),
        (NAN, None),
        (None, None),
        (True, "true"),
        (["Tents", None, 2.0, ["Red", NAN]], "Tents, 2, Red"),
        ({"colour": "red", "size": None, "price": 3}, "colour: red, price: 3"),
        ([], None),
    ],
)
def test_one_text(value: object, expected: str | None) -> None:
    assert texts(pl.Series([value], dtype=pl.Object)).to_list() == [expected]
    assert item_attributes({"title": value}, ["title"]).get("title") == expected
    if isinstance(value, str | float | int) and not isinstance(value, bool):
        assert texts(pl.Series([value])).to_list() == [expected]


def test_what_is_nested_without_end_says_nothing() -> None:
    value: object = "deep"
    for _ in range(5000):
        value = [value]
    assert as_text(["a", value]) == "a"
    assert as_text(10**5000) is None


def test_attributes_have_the_catalogues_names_and_order() -> None:
    columns = ["title", "brand", "info:year"]
    assert list(item_attributes({"colour": "red", "INFO:year": 1999, " Brand ": "Alp", "TITLE": "Tent"}, columns).items()) == [
        ("title", "Tent"),
        ("brand", "Alp"),
        ("info:year", "1999"),
        ("colour", "red"),
    ]
    assert item_attributes({"Brand": "A", "brand": "b"}, ["Brand", "brand"]) == {"Brand": "A", "brand": "b"}
    with pytest.raises(DataError, match="'brand' is given twice, as 'Brand' too"):
        item_attributes({"brand": "b", "Brand": "A"}, ["brand"])


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([("title", "brand", "year"), ("title", "brand", "category", "year")], ["title", "brand", "category", "year"]),
        ([("title", "year"), ("brand", "year"), ("title", "brand")], ["title", "brand", "year"]),
        ([(), ("title",)], ["title"]),
        ([("a", "b"), ("b", "a")], ["a", "b"]),  # they disagree
        ([], []),
    ],
)
def test_the_order_of_attributes_agrees_with_every_item(items: list[tuple[str, ...]], expected: list[str]) -> None:
    assert attribute_order([dict.fromkeys(names, "") for names in items]) == expected


def test_a_table_of_items_reads_null_marks_as_missing_unless_told_otherwise(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\nu,a,1\n")
    (tmp_path / "items.csv").write_text("item,title,brand\na,NA,Alp\nb,None,\\N\nNA,Ghost,Alp\n")
    raw = read_source(tmp_path, None, ReadOptions())
    assert raw.items.rows() == [("a", None, "Alp"), ("b", None, None)]
    assert [str(bad) for bad in raw.problems] == ["items.csv:4: the item id is 'NA', which stands for a missing value"]
    raw = read_source(tmp_path, None, ReadOptions(null_marks=()))
    assert raw.items.rows() == [("a", "NA", "Alp"), ("b", "None", "\\N"), ("NA", "Ghost", "Alp")]
