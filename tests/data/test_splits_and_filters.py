from __future__ import annotations

import hashlib
import json
import struct
from collections import Counter
from random import Random

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laserrec.data.dataset import Dataset
from laserrec.data.events import Events
from laserrec.data.filters import count_repeats, drop_duplicates, drop_repeats, in_order, k_core
from laserrec.data.splits import SplitInfo, global_time, leave_one_out, moments_at
from laserrec.data.tables import PART_TYPE
from laserrec.errors import DataError


def table(rows: list[tuple[str, str, int]]) -> Events:
    return Events.of(pl.DataFrame(rows, schema={"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}, orient="row"))


def listed(events: Events) -> list[tuple[str, ...]]:
    return events.frame().rows()


PAIRS = st.lists(st.tuples(st.sampled_from("uvwxyz"), st.sampled_from("abcdef"), st.integers(0, 5)), max_size=60)


def test_leave_one_out() -> None:
    divided, split = leave_one_out(table([("u", "a", 1), ("u", "b", 2), ("u", "c", 3), ("u", "d", 4), ("v", "a", 1), ("v", "b", 2)]))
    assert divided.frame()["part"].to_list() == ["train", "train", "valid", "test", "train", "train"]
    assert (split.kind, split.parameters) == ("leave-one-out", {})


def test_global_time() -> None:
    events = table([("u", "a", 10), ("u", "b", 20), ("v", "c", 20), ("v", "d", 29), ("w", "e", 30)])
    divided, split = global_time(events, 20, 30)
    assert divided.frame()["part"].to_list() == ["train", "valid", "valid", "valid", "test"]
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
    times = {part: [row[2] for row in listed(divided) if row[3] == part] for part in ("train", "valid", "test")}
    assert max(times["train"]) < min(times["valid"])
    assert max(times["valid"]) < min(times["test"])


def test_duplicates_and_repeats() -> None:
    events = table([("u", "a", 1), ("u", "a", 1), ("u", "a", 2), ("v", "a", 1)])
    assert listed(drop_duplicates(events)) == [("u", "a", 1), ("u", "a", 2), ("v", "a", 1)]
    assert listed(drop_repeats(events)) == [("u", "a", 1), ("v", "a", 1)]


def test_ties_are_broken_by_item_id_whatever_the_order_of_the_file() -> None:
    events = table([("u", "c", 1), ("u", "a", 2), ("u", "b", 1)])
    assert listed(in_order(events)) == listed(in_order(events.take(np.array([2, 1, 0])))) == [("u", "b", 1), ("u", "c", 1), ("u", "a", 2)]


def test_k_core_goes_on_until_nothing_changes() -> None:
    # Dropping w (1 event) leaves c with 1, dropping c leaves v with 1, dropping v leaves a and b with u alone.
    events = table([("u", "a", 1), ("u", "b", 2), ("v", "a", 1), ("v", "c", 2), ("w", "c", 1), ("x", "a", 1), ("x", "b", 2)])
    assert sorted(listed(k_core(events, 2, 2))) == [("u", "a", 1), ("u", "b", 2), ("x", "a", 1), ("x", "b", 2)]
    assert len(k_core(events, 3, 1)) == 0


@given(PAIRS, st.integers(1, 4), st.integers(1, 4))
def test_k_core_equals_a_loop_over_counters(rows: list[tuple[str, str, int]], min_user: int, min_item: int) -> None:
    left = list(rows)
    while True:
        users, items = Counter(user for user, _, _ in left), Counter(item for _, item, _ in left)
        kept = [row for row in left if users[row[0]] >= min_user and items[row[1]] >= min_item]
        if kept == left:
            break
        left = kept
    assert listed(k_core(table(rows), min_user, min_item)) == left


@given(PAIRS, st.sampled_from([1, 10**6, 10**15]))
def test_order_duplicates_and_repeats_equal_lists(rows: list[tuple[str, str, int]], unit: int) -> None:
    rows = [(user, item, time * unit) for user, item, time in rows]
    events = in_order(table(rows))
    assert listed(events) == sorted(rows, key=lambda row: (row[0], row[2], row[1]))
    once = drop_duplicates(events)
    assert listed(once) == sorted(set(rows), key=lambda row: (row[0], row[2], row[1]))
    firsts = list({(user, item): (user, item, time) for user, item, time in reversed(listed(once))}.values())[::-1]
    assert sorted(listed(drop_repeats(once))) == sorted(firsts)
    assert count_repeats(once) == len(once) - len(firsts)


def test_rows_too_wide_for_one_number_are_sorted_too() -> None:
    rng = np.random.default_rng(0)
    rows = [
        (f"u{a}", f"i{b}", int(c))
        for a, b, c in zip(rng.integers(0, 40, 90), rng.integers(0, 40, 90), rng.integers(0, 2**58, 90), strict=True)
    ]
    assert listed(in_order(table(rows))) == sorted(rows, key=lambda row: (row[0], row[2], row[1]))


def slow_fingerprint(items: list[str], rows: list[tuple[str, str, str]]) -> str:
    """The definition, in the plainest words."""
    users = sorted({user for user, _, _ in rows})
    rows = sorted(rows, key=lambda row: row[0])  # stable: each user's order is kept
    content = b"laserrec split 1\n" + json.dumps(sorted(items), separators=(",", ":")).encode()
    content += json.dumps(users, separators=(",", ":")).encode()
    columns = ([users.index(row[0]) for row in rows], [sorted(items).index(row[1]) for row in rows])
    for codes in (*columns, [("train", "valid", "test").index(row[2]) for row in rows]):
        content += struct.pack(f"<{len(codes)}q", *codes)
    return hashlib.sha256(content).hexdigest()


@given(
    st.lists(st.tuples(st.sampled_from(["u", "é", "v w", '"']), st.sampled_from(["a", "ß", "c"])), min_size=1, max_size=20), st.randoms()
)
def test_the_fingerprint_is_the_one_of_its_definition(pairs: list[tuple[str, str]], random: Random) -> None:
    items = ["a", "ß", "c", "never"]
    random.shuffle(items)
    rows = [(user, item, time, "train") for time, (user, item) in enumerate(pairs)]
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64, "part": PART_TYPE}
    catalogue = pl.DataFrame({"item_id": items, "title": items})
    dataset = Dataset.build("x", catalogue, pl.DataFrame(rows, schema=schema, orient="row"), SplitInfo("source", {}))
    assert dataset.fingerprint == slow_fingerprint(items, [(user, item, part) for user, item, _, part in rows])
    assert dataset.interactions.rows() == sorted(rows, key=lambda row: row[0])
    divided, split = leave_one_out(dataset.events)
    again = Dataset.of("x", dataset.items, divided, split)
    assert again.fingerprint == slow_fingerprint(items, [(user, item, part) for user, item, _, part in again.interactions.rows()])
