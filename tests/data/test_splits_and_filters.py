from __future__ import annotations

from collections import Counter

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laserrec.data.filters import drop_duplicates, drop_repeats, in_order, k_core
from laserrec.data.splits import global_time, leave_one_out, moments_at
from laserrec.errors import DataError


def table(rows: list[tuple[str, str, int]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}, orient="row")


PAIRS = st.lists(st.tuples(st.sampled_from("uvwxyz"), st.sampled_from("abcdef"), st.integers(0, 5)), max_size=60)


def test_leave_one_out() -> None:
    divided, split = leave_one_out(table([("u", "a", 1), ("u", "b", 2), ("u", "c", 3), ("u", "d", 4), ("v", "a", 1), ("v", "b", 2)]))
    assert divided["part"].to_list() == ["train", "train", "valid", "test", "train", "train"]
    assert (split.kind, split.parameters) == ("leave-one-out", {})


def test_global_time() -> None:
    events = table([("u", "a", 10), ("u", "b", 20), ("v", "c", 20), ("v", "d", 29), ("w", "e", 30)])
    divided, split = global_time(events, 20, 30)
    assert divided["part"].to_list() == ["train", "valid", "valid", "valid", "test"]
    assert split.parameters == {"valid_from": 20, "test_from": 30}
    with pytest.raises(DataError, match="valid_from < test_from"):
        global_time(events, 30, 30)
    with pytest.raises(DataError, match="times run from 10 to 30"):
        global_time(events, 31, 40)


def test_moments_divide_by_shares() -> None:
    events = table([("u", "a", second) for second in range(10)])
    assert moments_at(events, 0.2, 0.1) == (7, 9)
    with pytest.raises(DataError, match="less than 1"):
        moments_at(events, 0.5, 0.5)


@given(PAIRS)
def test_no_training_event_is_later_than_a_held_out_one(rows: list[tuple[str, str, int]]) -> None:
    try:
        divided, _ = global_time(table(rows), 2, 4)
    except DataError:
        return
    times = {part: divided.filter(pl.col("part") == part)["timestamp"].to_list() for part in ("train", "valid", "test")}
    assert max(times["train"]) < min(times["valid"])
    assert max(times["valid"]) < min(times["test"])


def test_duplicates_and_repeats() -> None:
    events = table([("u", "a", 1), ("u", "a", 1), ("u", "a", 2), ("v", "a", 1)])
    assert drop_duplicates(events).rows() == [("u", "a", 1), ("u", "a", 2), ("v", "a", 1)]
    assert drop_repeats(events).rows() == [("u", "a", 1), ("v", "a", 1)]


def test_ties_are_broken_by_item_id_whatever_the_order_of_the_file() -> None:
    events = table([("u", "c", 1), ("u", "a", 2), ("u", "b", 1)])
    assert in_order(events).rows() == in_order(events.reverse()).rows() == [("u", "b", 1), ("u", "c", 1), ("u", "a", 2)]


def test_k_core_goes_on_until_nothing_changes() -> None:
    # Dropping w (1 event) leaves c with 1, dropping c leaves v with 1, dropping v leaves a and b with u alone.
    events = table([("u", "a", 1), ("u", "b", 2), ("v", "a", 1), ("v", "c", 2), ("w", "c", 1), ("x", "a", 1), ("x", "b", 2)])
    assert sorted(k_core(events, 2, 2).rows()) == [("u", "a", 1), ("u", "b", 2), ("x", "a", 1), ("x", "b", 2)]
    assert k_core(events, 3, 1).height == 0


@given(PAIRS, st.integers(1, 4), st.integers(1, 4))
def test_k_core_equals_a_loop_over_counters(rows: list[tuple[str, str, int]], min_user: int, min_item: int) -> None:
    left = list(rows)
    while True:
        users, items = Counter(user for user, _, _ in left), Counter(item for _, item, _ in left)
        kept = [row for row in left if users[row[0]] >= min_user and items[row[1]] >= min_item]
        if kept == left:
            break
        left = kept
    assert k_core(table(rows), min_user, min_item).rows() == left
