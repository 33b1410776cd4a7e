"""The small tables in ../shared/cases/readers, where they are at hand; the kinds are tested without them in test_logs.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from laserrec.data.options import ReadOptions
from laserrec.data.raw import RawTables
from laserrec.data.sources import read_source

CASES = Path(__file__).parents[3] / "shared" / "cases" / "readers"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not at hand")


def case(name: str, items: str | None = None, **options: object) -> RawTables:
    read = ReadOptions(items=CASES / items if items else None, **options)  # type: ignore[arg-type]
    return read_source(CASES / name, "table", read)


def bad_lines(raw: RawTables) -> list[int]:
    return [bad.line for bad in raw.problems]


@pytest.mark.parametrize("name", ["inch-marks.csv", "backslash-quotes.csv"])
def test_all_seven_events(name: str) -> None:
    raw = case(name)
    assert raw.interactions.select("user_id", "item_id").rows() == [
        *(("anna", "B1"), ("anna", "B2"), ("anna", "B3"), ("ben", "B1"), ("ben", "B3"), ("carl", "B2"), ("carl", "B1"))
    ]
    assert raw.problems == ()


def test_a_comma_in_a_title() -> None:
    raw = case("comma-in-title.csv")
    assert (bad_lines(raw), raw.interactions["item_id"].to_list()) == ([3], ["B1", "B3", "B1", "B3"])


def test_baskets() -> None:
    assert bad_lines(case("baskets.jsonl")) == [1, 2, 3, 4]
    raw = case("baskets.jsonl", explode="item")
    assert raw.interactions["item_id"].to_list() == ["B1", "B2", "B3", "B2", "B1", "B3", "B1"]


def test_odd_ids() -> None:
    raw = case("odd-ids.jsonl")
    assert (bad_lines(raw), raw.interactions["item_id"].to_list()) == ([1, 2, 3], ["100000", "7"])


def test_nan() -> None:
    raw = case("nan-log.jsonl", "nan-items.jsonl")
    assert bad_lines(raw) == [3, 4, 5, 7]
    assert raw.items.rows() == [("1", "Tent", "Fjord"), ("2", None, "Kolm"), ("3", None, None)]


def test_float_ids() -> None:
    raw = case("float-ids-log.csv", "float-ids-items.csv")
    assert (bad_lines(raw), raw.interactions["item_id"].to_list()) == ([6], ["7", "8", "7", "8"])


def test_prefixed_columns() -> None:
    raw = case("prefixed-columns-log.csv", "prefixed-columns-items.csv")
    assert raw.items.rows(named=True)[0] == {"item_id": "i1", "title": "Two-person tent", "info:brand": "Fjord", "info:colour": "green"}


def test_anonymous_sessions() -> None:
    raw = case("anonymous-sessions.csv")
    assert bad_lines(raw) == [2, 3, 4, 5, 6]
    assert any(advice.options == (("user", "sessionId"),) for advice in raw.advice)
    assert raw.columns["time"] == "eventdate and timeframe"
    assert case("anonymous-sessions.csv", user="sessionId").interactions.sort("user_id", "timestamp")["item_id"].to_list() == [
        *("32118", "81766", "31331"),
        *("9654", "32627"),
        *("31331", "81766", "9654"),
    ]


def test_dates_with_clocks_and_moments() -> None:
    assert case("date-and-clock.csv").interactions.sort("timestamp")["item_id"].to_list() == ["A", "B", "C"]
    assert case("date-and-moment.csv").interactions.sort("timestamp")["item_id"].to_list() == ["Z", "A", "M"]


def test_quotes_in_titles() -> None:
    raw = case("quotes-log.tsv", "quotes-items.tsv")
    assert raw.items["title"].to_list() == ['"The Five" hosts talk', '"Quoted start', "Plain one", 'ends with quote"', "Other"]


def test_named_zones() -> None:
    assert case("zone-named.csv").interactions["timestamp"].to_list() == [1_572_566_400_000_000, 1_572_566_401_000_000]
