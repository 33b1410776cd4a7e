from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laserrec.data.times import clock, microseconds, resolution
from laserrec.errors import DataError

MOMENT = 1_500_000_000_000_000  # 2017-07-14 02:40:00 UTC


@pytest.mark.parametrize(
    "text",
    [
        "1500000000", " 1500000000.0 ", "1.5e9", "1500000000000", "1500000000000000", "1500000000000000000", "2017-07-14T02:40:00Z",
        "2017-07-14 02:40:00", "2017-07-14 02:40", "2017/07/14 02:40", "2017-07-14T04:40:00+02:00", "2017-07-14 04:40:00 +0200",
        "2017-07-14T02:40:00.000", "2017-07-14 02:40:00 UTC", "2017-07-14T02:40:00 utc", "2017-07-14 02:40 GMT", "2017-07-14 02:40:00UTC",
        "2017-07-13 22:40:00 EDT", "2017-07-13 18:40 PST", "2017-07-14 04:40:00 Europe/Berlin", "2017-07-14T04:40+02:00[Europe/Berlin]",
        "2017-07-14 02:40:00 +0000 UTC",
    ],
)  # fmt: skip
def test_one_moment_in_many_shapes(text: str) -> None:
    assert microseconds(pl.Series([text])).to_list() == [MOMENT]


def test_fractions_are_kept() -> None:
    values = ["1500000000.25", "1500000000250", "2017-07-14T02:40:00.250Z"]
    assert microseconds(pl.Series(values)).to_list() == [MOMENT + 250_000] * 3


@pytest.mark.parametrize(
    "text",
    [
        "", "soon", "nan", "inf", "1e400", "2017-13-14", "14.07.2017", "9" * 40, "2017-07-14 02:40 XYZ", "2017-07-14 02:40 PM",
        "10000-01-01", "0000-12-31", "-0001-01-01", "-62135596801", "2024-03-31 02:30:00 Europe/Berlin",
    ],
)  # fmt: skip
def test_what_is_no_moment_is_null(text: str) -> None:
    assert microseconds(pl.Series([text, "1500000000"])).to_list() == [None, MOMENT]


def test_typed_columns() -> None:
    assert microseconds(pl.Series([date(1970, 1, 2)])).to_list() == [86_400_000_000]
    assert microseconds(pl.Series([datetime(1970, 1, 1, 1, tzinfo=UTC)])).to_list() == [3_600_000_000]
    assert microseconds(pl.Series([1.5, None])).to_list() == [1_500_000, None]
    assert microseconds(pl.Series([True])).to_list() == [None]


LIMITS = {"Date": pl.Date, **{f"{unit} {zone}": pl.Datetime(unit, zone) for unit in ("ms", "us", "ns") for zone in (None, "Asia/Tokyo")}}


@pytest.mark.parametrize("kind", LIMITS.values(), ids=LIMITS)
def test_dates_beyond_the_calendar_are_none_whatever_their_type(kind: pl.DataType) -> None:
    most = 2**31 - 1 if kind == pl.Date else 2**63 - 1
    raw = pl.Series([most, -most - 1, 0, None, 1], dtype=pl.Int32 if kind == pl.Date else pl.Int64).cast(kind)
    first, second, *known = microseconds(raw).to_list()
    unit = 86_400 * 10**9 if kind == pl.Date else {"ms": 10**6, "us": 10**3, "ns": 1}[kind.time_unit]  # type: ignore[attr-defined]
    assert known == [0, None, unit // 1000]
    # Nanoseconds of 64 bits end in the years 1677 and 2262.
    assert [first, second] == ([(2**63 - 1) // 1000, -(2**63) // 1000] if unit == 1 else [None, None])


def test_the_years_1_to_9999_are_moments() -> None:
    texts = ["0001-01-01", "9999-12-31T23:59:59.999999", "9999-12-31 23:59 -0100"]
    assert microseconds(pl.Series(texts)).to_list() == [-62_135_596_800 * 10**6, 253_402_300_800 * 10**6 - 1, None]
    assert microseconds(pl.Series([date.min, date.max])).to_list() == [-62_135_596_800 * 10**6, (253_402_300_800 - 86_400) * 10**6]
    assert microseconds(pl.Series([-(2**63), 2**63 - 1], dtype=pl.Int64)).null_count() == 0  # as nanoseconds
    assert microseconds(pl.Series([1e300, -1e300, float("inf")])).to_list() == [None] * 3
    assert microseconds(pl.Series(["99999", "1"]), "%Y").to_list()[0] is None


SECOND = 1_000_000


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["18:30", "6:05 PM", "00:00:01.5", "24:00", "x", None], [66_600, 65_100, 1.5, None, None, None]),
        (["1830", "0915", "5"], [66_600, 33_300, 300]),
        ([1830, 915, None], [66_600, 33_300, None]),
        ([1830.0, 915.0], [66_600, 33_300]),
        ([23, 0], [82_800, 0]),
        (["183005", "000000"], [66_605, 0]),
        ([526309, 1031018, 75], [526.309, 1031.018, 0.075]),  # no times of day: milliseconds
        ([86_400_000, -1, 0], [None, None, 0]),
        ([time(18, 30), None], [66_600, None]),
        ([timedelta(minutes=5), timedelta(days=2)], [300, None]),
        ([True], [None]),
    ],
)
def test_clocks(values: list[object], expected: list[float | None]) -> None:
    assert clock(pl.Series(values)).to_list() == [None if second is None else round(second * SECOND) for second in expected]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [([0, 86_400], "day"), ([0, 60], "minute"), ([3600, 1], "second"), ([0.5, 3], "fraction"), ([], "day")],
)
def test_how_finely_moments_are_told_apart(seconds: list[float], expected: str) -> None:
    assert resolution(pl.Series([int(second * SECOND) for second in seconds], dtype=pl.Int64)) == expected


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1), st.sampled_from([pl.Int64, *LIMITS.values()]))
def test_any_number_of_any_type_gives_a_moment_of_the_calendar_or_null(values: list[int], kind: pl.DataType) -> None:
    raw = pl.Series([value % 2**31 if kind == pl.Date else value for value in values], dtype=pl.Int32 if kind == pl.Date else pl.Int64)
    for found in microseconds(raw.cast(kind)).to_list():
        assert found is None or -62_135_596_800 * 10**6 <= found < 253_402_300_800 * 10**6


def test_columns_of_several_types() -> None:
    values = [1_500_000_000, 1.5e9, "2017-07-14T02:40:00Z", True, None, [1], {"a": 1}, 10**30]
    assert microseconds(pl.Series(values, dtype=pl.Object)).to_list() == [MOMENT] * 3 + [None] * 5
    assert clock(pl.Series(["18:30", 1830, None], dtype=pl.Object)).to_list() == [66_600 * SECOND, 66_600 * SECOND, None]


def test_a_named_format() -> None:
    assert microseconds(pl.Series(["14.07.2017 02:40", "x"]), "%d.%m.%Y %H:%M").to_list() == [MOMENT, None]
    assert microseconds(pl.Series(["14.07.2017 04:40 +0200"]), "%d.%m.%Y %H:%M %z").to_list() == [MOMENT]


def test_an_unusable_format_is_refused() -> None:
    with pytest.raises(DataError, match="The time format '%d %H' cannot be used"):
        microseconds(pl.Series(["14 02"]), "%d %H")


@given(st.datetimes(min_value=datetime(1973, 3, 4), max_value=datetime(2200, 1, 1)))
def test_iso_dates_agree_with_numbers(moment: datetime) -> None:
    whole = (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    assert microseconds(pl.Series([moment.isoformat(), str(whole)])).to_list() == [whole, whole]


@given(st.lists(st.text(max_size=30)))
def test_any_text_gives_a_moment_or_null(values: list[str]) -> None:
    assert len(microseconds(pl.Series(values, dtype=pl.String))) == len(values)
