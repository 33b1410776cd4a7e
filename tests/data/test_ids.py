from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laserrec.data.ids import distinct, number_alike, numbered, places_among
from laserrec.errors import DataError

TEXTS = st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=40)


@given(TEXTS)
def test_distinct_equals_a_sorted_set(texts: list[str]) -> None:
    ids, codes = distinct(pl.Series(texts, dtype=pl.String))
    assert ids.to_list() == sorted(set(texts))  # Python sorts by code points, as UTF-8 does
    assert [ids[int(code)] for code in codes] == texts
    assert codes.dtype == np.int64


@given(
    st.lists(st.none() | st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(["7", "7.0", " 7 ", "NA", ""]), max_size=40)
)
def test_numbered_ids_are_distinct_and_sorted_and_none_is_missing(texts: list[str | None]) -> None:
    def bare(text: str | None) -> str | None:
        return None if text is None or not text.strip() or text == "NA" else text.strip().removesuffix(".0")

    def read(values: pl.Series) -> pl.Series:
        return pl.Series([bare(value) for value in values], dtype=pl.String)

    ids, codes = numbered(pl.Series(texts, dtype=pl.String), read)
    assert ids.to_list() == sorted({name for text in texts if (name := bare(text)) is not None})
    assert [None if code < 0 else ids[int(code)] for code in codes] == [bare(text) for text in texts]


# Keys that share their first bits, and keys that share all but their last, collide in the table again and again.
KEYS = st.one_of(
    st.integers(0, 7), st.integers(0, 7).map(lambda k: k << 61), st.integers(0, 2**64 - 1), st.integers(0, 50).map(lambda k: 2**64 - 1 - k)
)


@given(st.lists(KEYS, max_size=300))
def test_equal_keys_have_one_number_and_others_another(keys: list[int]) -> None:
    numbers, size = number_alike(np.array(keys, dtype=np.uint64))
    pairs = set(zip(keys, numbers.tolist(), strict=True))
    assert len(pairs) == len(set(keys)) == size
    assert {number for _, number in pairs} == set(range(size))


def test_many_keys_in_several_rounds() -> None:
    keys = np.random.default_rng(0).integers(0, 2**64, 5000, dtype=np.uint64)
    numbers, size = number_alike(np.concatenate([keys, keys[::-1]]))
    assert size == 5000
    assert (numbers[:5000] == numbers[:4999:-1]).all()


def test_two_ids_that_share_a_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = pl.Series.hash
    monkeypatch.setattr(pl.Series, "hash", lambda series, seed=0: sound(series, seed) // 2**62 * 2**62 if seed < 2 else sound(series, seed))
    ids, codes = distinct(pl.Series([f"u{n % 50}" for n in range(200)]))
    assert len(ids) == 50
    assert ids[int(codes[123])] == "u23"


def test_unknown_ids_are_named() -> None:
    known = pl.Series(["c", "a", "b"])
    assert places_among(pl.Series(["a", "b", "a"]), known).tolist() == [1, 2, 1]
    with pytest.raises(DataError, match="'z' occurs in the interactions"):
        places_among(pl.Series(["a", "z"]), known)
