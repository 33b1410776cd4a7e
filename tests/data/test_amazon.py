"""Amazon's files: lines of every kind are read or counted, none ends in a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laserrec.data.options import ReadOptions
from laserrec.data.raw import RawTables
from laserrec.data.sources import read_source

REVIEW = '{"reviewerID": "u", "asin": "A1", "overall": 5.0, "unixReviewTime": 1400000000}\n'


def read(folder: Path, meta: list[str], reviews: str = REVIEW, **options: object) -> RawTables:
    (folder / "reviews_Toys.json").write_text(reviews)
    (folder / "meta_Toys.json").write_text("\n".join(meta) + "\n")
    return read_source(folder, "amazon", ReadOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{[]: 1}", "neither JSON nor a Python literal"),
        ("{{}: 1, 'asin': 'A1'}", "neither JSON nor a Python literal"),
        ("{'asin': 'A1'", "neither JSON nor a Python literal"),
        ("(" * 5000, "neither JSON nor a Python literal"),
        ("[" * 50_000 + "]" * 50_000, "neither JSON nor a Python literal"),
        ('{"asin": "A1", "x": ' + "1" * 5000 + "}", "neither JSON nor a Python literal"),
        ("{'asin': 'A1'} + {1}", "neither JSON nor a Python literal"),
        ("__import__('os')", "neither JSON nor a Python literal"),
        ("{'asin': ['A1']}", "the asin is a list"),
        ("{'asin': {'a': 1}}", "the asin is an object"),
        ("{'asin': True}", "the asin is true, a truth value"),
        ("{'asin': 0x" + "f" * 4000 + "}", "the asin is a number of more than a thousand digits"),
        ("{'asin': 'NULL'}", "the asin is 'NULL', which stands for a missing value"),
        ("{'title': 'No id'}", "no asin"),
        ("{'asin': '  '}", "no asin"),
        ("17", "not an object"),
        ("b'bytes'", "not an object"),
    ],
)
def test_a_line_that_cannot_be_used_is_a_bad_row(line: str, reason: str, tmp_path: Path) -> None:
    raw = read(tmp_path, [line, '{"asin": "A1", "title": "Top"}'])
    assert raw.items.rows() == [("A1", "Top", None, None)]
    (bad,) = raw.problems
    assert (bad.file, bad.line) == ("meta_Toys.json", 1)
    assert bad.reason.startswith(reason)
    assert raw.rows == 3


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (r"{'asin': 'A1', 'title': 'a\d', 'brand': u'Lego'}", ("A1", "a\\d", "Lego", None)),
        ("{'asin': 17, 'title': 3.0, 'brand': None}", ("17", "3", None, None)),
        ("{'asin': 'A1', 'title': float, }", None),
        ("{'asin': 'A1', 'title': {1, 2}.union, }", None),
        ("{'asin': 'A1', 'title': 1e999, 'brand': 5j}", ("A1", "inf", "5j", None)),
        ('{"asin": "A1", "title": "\\ud800x", "brand": NaN}', ("A1", "?x", None, None)),
        ('{"asin": "A1", "title": ' + "[" * 300 + '"x"' + "]" * 300 + "}", ("A1", None, None, None)),
        ('{"asin": "A1", "details": "none", "categories": [["Toys", "Tops"], ["X"]]}', ("A1", None, None, "Toys, Tops")),
        ('{"parent_asin": "P1", "details": {"Brand": "Lego &amp; Co"}, "store": "S", "category": []}', ("P1", None, "Lego & Co", None)),
    ],
)
def test_odd_values_are_read_as_text_or_left_out(line: str, expected: tuple[str | None, ...] | None, tmp_path: Path) -> None:
    raw = read(tmp_path, [line])
    assert raw.items.rows() == ([expected] if expected else [])
    assert len(raw.problems) == (expected is None)


def test_repeated_ids_are_counted(tmp_path: Path) -> None:
    lines = [
        json.dumps({"asin": name, "title": title}) for name, title in (("A1", "First"), ("A1", "Second"), ("A2", "Top"), ("A1", "First"))
    ]
    raw = read(tmp_path, lines)
    assert raw.items.select("item_id", "title").rows() == [("A1", "First"), ("A2", "Top")]
    assert raw.notes == ("meta_Toys.json: 2 rows whose item id occurred before were left out; the first of each stays",)


def test_reviews_are_kept_by_their_rating_and_columns_are_named(tmp_path: Path) -> None:
    reviews = REVIEW + REVIEW.replace("5.0", "2.0").replace("A1", "A2") + REVIEW.replace('"u"', "null")
    raw = read(tmp_path, [], reviews, min_rating=4.0)
    assert raw.interactions["item_id"].to_list() == ["A1"]
    assert (raw.left_out, [str(bad) for bad in raw.problems]) == (1, ["reviews_Toys.json:3: no user id"])
    assert raw.columns == {"user": "reviewerID", "item": "asin", "time": "unixReviewTime", "rating": "overall of 4 and more"}
    assert read(tmp_path, [], reviews).ignored == {"reviews_Toys.json": ("overall",)}


LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["asin", "parent_asin", "title", "brand", "store", "details", "category", "categories", "main_cat"])


@settings(max_examples=100, deadline=None)
@given(entries=st.lists(st.dictionaries(KEYS, LITERALS, max_size=6), min_size=1, max_size=4))
def test_any_python_literal_is_an_item_or_a_bad_row(entries: list[dict[str, object]], tmp_path_factory: pytest.TempPathFactory) -> None:
    raw = read(tmp_path_factory.mktemp("meta"), [repr(entry) for entry in entries])
    left_out = sum(int(note.split()[1]) for note in raw.notes if "occurred before" in note)
    assert raw.items.height + left_out + len(raw.problems) == len(entries)
    assert raw.rows == 1 + len(entries)
