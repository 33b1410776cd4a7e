from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laserrec.data.times import microseconds
from laserrec.errors import DataError

MOMENT = 1_500_000_000_000_000  # 2017-07-14 02:40:00 UTC


@pytest.mark.parametrize(
    "text",
    [
        "1500000000", " 1500000000.0 ", "1.5e9", "1500000000000", "1500000000000000", "1500000000000000000", "2017-07-14T02:40:00Z",
        "2017-07-14 02:40:00", "2017-07-14 02:40", "2017/07/14 02:40", "2017-07-14T04:40:00+02:00", "2017-07-14 04:40:00 +0200",
        "2017-07-14T02:40:00.000",
    ],
)  # fmt: skip
def test_one_moment_in_many_shapes(text: str) -> None:
    assert microseconds(pl.Series([text])).to_list() == [MOMENT]


def test_fractions_are_kept() -> None:
    values = ["1500000000.25", "1500000000250", "2017-07-14T02:40:00.250Z"]
    assert microseconds(pl.Series(values)).to_list() == [MOMENT + 250_000] * 3


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "1e400", "2017-13-14", "14.07.2017", "9" * 40])
def test_what_is_no_moment_is_null(text: str) -> None:
    assert microseconds(pl.Series([text, "1500000000"])).to_list() == [None, MOMENT]


def test_typed_columns() -> None:
    assert microseconds(pl.Series([date(1970, 1, 2)])).to_list() == [86_400_000_000]
    assert microseconds(pl.Series([datetime(1970, 1, 1, 1, tzinfo=UTC)])).to_list() == [3_600_000_000]
    assert microseconds(pl.Series([1.5, None])).to_list() == [1_500_000, None]
    assert microseconds(pl.Series([True])).to_list() == [None]


def test_a_named_format() -> None:
    assert microseconds(pl.Series(["14.07.2017 02:40", "x"]), "%d.%m.%Y %H:%M").to_list() == [MOMENT, None]
    assert microseconds(pl.Series(["14.07.2017 04:40 +0200"]), "%d.%m.%Y %H:%M %z").to_list() == [MOMENT]


def test_an_unusable_format_is_refused() -> None:
    with pytest.raises(DataError, match="--time-format"):
        microseconds(pl.Series(["14 02"]), "%d %H")


@given(st.datetimes(min_value=datetime(1973, 3, 4), max_value=datetime(2200, 1, 1)))
def test_iso_dates_agree_with_numbers(moment: datetime) -> None:
    whole = (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    assert microseconds(pl.Series([moment.isoformat(), str(whole)])).to_list() == [whole, whole]


@given(st.lists(st.text(max_size=30)))
def test_any_text_gives_a_moment_or_null(values: list[str]) -> None:
    assert len(microseconds(pl.Series(values, dtype=pl.String))) == len(values)
