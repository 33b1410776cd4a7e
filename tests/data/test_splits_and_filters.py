from __future__ import annotations

import hashlib
import json
import struct
from collections import Counter
from collections.abc import Sequence
from random import Random

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laserrec.data.dataset import Dataset
from laserrec.data.events import Events
from laserrec.data.filters import (
    count_repeats,
    drop_duplicates,
    drop_repeats,
    in_order,
    k_core,
    sorted_by_item,
    stable_order,
    tied_share,
)
from laserrec.data.splits import SplitInfo, global_time, leave_one_out, moments_at
from laserrec.data.tables import SPLIT_TYPE
from laserrec.errors import DataError


def table(rows: list[tuple[str, str, int]]) -> Events:
    return Events.of(pl.DataFrame(rows, schema={"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}, orient="row"))


def listed(events: Events) -> list[tuple[str, ...]]:
    return events.frame().rows()


PAIRS = st.lists(st.tuples(st.sampled_from("uvwxyz"), st.sampled_from("abcdef"), st.integers(0, 5)), max_size=60)


def test_leave_one_out() -> None:
    divided, split = leave_one_out(table([("u", "a", 1), ("u", "b", 2), ("u", "c", 3), ("u", "d", 4), ("v", "a", 1), ("v", "b", 2)]))
    assert divided.frame()["split"].to_list() == ["train", "train", "valid", "test", "train", "train"]
    assert (split.kind, split.parameters) == ("leave-one-out", {})


def test_global_time() -> None:
    events = table([("u", "a", 10), ("u", "b", 20), ("v", "c", 20), ("v", "d", 29), ("w", "e", 30)])
    divided, split = global_time(events, 20, 30)
    assert divided.frame()["split"].to_list() == ["train", "valid", "valid", "valid", "test"]
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
    times = {split: [row[2] for row in listed(divided) if row[3] == split] for split in ("train", "valid", "test")}
    assert max(times["train"]) < min(times["valid"])
    assert max(times["valid"]) < min(times["test"])


def test_duplicates_and_repeats() -> None:
    events = table([("u", "a", 1), ("u", "a", 1), ("u", "a", 2), ("v", "a", 1)])
    assert listed(drop_duplicates(events)) == [("u", "a", 1), ("u", "a", 2), ("v", "a", 1)]
    assert listed(drop_repeats(events)) == [("u", "a", 1), ("v", "a", 1)]


def test_ties_keep_the_order_of_the_file_never_that_of_the_ids() -> None:
    events = table([("u", "c", 1), ("u", "a", 2), ("u", "b", 1)])
    assert listed(in_order(events)) == [("u", "c", 1), ("u", "b", 1), ("u", "a", 2)]
    assert listed(in_order(events.take(np.array([2, 1, 0])))) == [("u", "b", 1), ("u", "c", 1), ("u", "a", 2)]


TIED = [("u", item, 5) for item in "hgfedcba"] + [("v", item, 5) for item in "abcdefgh"]


def test_a_hash_orders_ties_alike_whatever_the_order_of_the_file() -> None:
    events = table(TIED)
    found = listed(in_order(events, "hash"))
    assert found == listed(in_order(events.take(np.arange(len(TIED))[::-1].copy()), "hash"))
    mine, theirs = [row[1] for row in found[:8]], [row[1] for row in found[8:]]
    assert sorted(mine) == sorted(theirs) == list("abcdefgh")
    assert mine != theirs  # each user's ties have an order of their own
    assert mine != sorted(mine)
    assert found != listed(in_order(events, "hash", seed=1))
    assert mine == sorted("abcdefgh", key=lambda item: plain_hash("u", item, 5))
    assert theirs == sorted("abcdefgh", key=lambda item: plain_hash("v", item, 5))


def plain_hash(user: str, item: str, time: int) -> int:
    """The hash in Python's whole numbers: it must be the same on every machine and with every version of numpy."""

    def digest(text: str) -> int:
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")

    def mixed(word: int) -> int:
        word = (word + 0x9E3779B97F4A7C15) % 2**64
        word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
        return word ^ (word >> 31)

    return mixed(mixed(mixed(digest(user)) ^ digest(item)) ^ time)


def by_item(users: int, ids: Sequence[str]) -> list[tuple[str, str, int]]:
    return [(f"u{user}", item, 5) for user in range(users) for item in ids]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["a", "b", "c", "d"], True),
        (["d", "c", "b", "a"], True),
        (["9", "10", "11", "100"], True),  # by number, not by text
        (["item9", "item10", "item11", "item100"], True),
        (["b", "a", "d", "c"], False),
    ],
)
def test_a_file_that_stands_sorted_by_item_is_noticed(ids: list[str], expected: bool) -> None:
    assert sorted_by_item(in_order(table(by_item(7, ids)))) == expected  # 21 pairs
    assert not sorted_by_item(in_order(table(by_item(6, ids))))  # 18 pairs may be by chance
    assert not sorted_by_item(in_order(table([(user, item, place) for place, (user, item, _) in enumerate(by_item(9, ids))])))


def test_a_files_order_that_is_random_is_kept() -> None:
    rng = np.random.default_rng(0)
    rows = [(f"u{user}", f"i{item}", 0) for user in range(50) for item in rng.choice(200, 10, replace=False)]
    assert not sorted_by_item(in_order(table(rows)))


def test_times_a_whole_age_apart_stay_with_their_users() -> None:
    last = 2**63 - 1
    rows = [("u", "a", last), ("v", "b", -last - 1), ("u", "b", -last), ("v", "a", 0), ("u", "c", 0)]
    expected = [("u", "b", -last), ("u", "c", 0), ("u", "a", last), ("v", "b", -last - 1), ("v", "a", 0)]
    assert listed(in_order(table(rows))) == expected


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3), max_size=50))
def test_the_order_is_the_one_of_pythons_stable_sort(values: list[int]) -> None:
    array = np.array(values, dtype=np.int64)
    order = stable_order(array)
    expected = sorted(range(len(values)), key=values.__getitem__)
    assert (list(range(len(values))) if order is None else order.tolist()) == expected
    assert stable_order(array, np.arange(len(values))[::-1].copy()).tolist() == sorted(  # type: ignore[union-attr]
        reversed(range(len(values))), key=values.__getitem__
    )


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
    assert listed(events) == sorted(rows, key=lambda row: (row[0], row[2]))
    once = drop_duplicates(events)
    assert listed(once) == sorted(dict.fromkeys(rows), key=lambda row: (row[0], row[2]))
    moments = Counter((user, time) for user, _, time in rows)
    assert tied_share(events) == pytest.approx(sum(count for count in moments.values() if count > 1) / max(1, len(rows)))
    firsts = list({(user, item): (user, item, time) for user, item, time in reversed(listed(once))}.values())[::-1]
    assert sorted(listed(drop_repeats(once))) == sorted(firsts)
    assert count_repeats(once) == len(once) - len(firsts)


def test_rows_too_wide_for_one_number_are_sorted_too() -> None:
    rng = np.random.default_rng(0)
    rows = [
        (f"u{a}", f"i{b}", int(c))
        for a, b, c in zip(rng.integers(0, 40, 90), rng.integers(0, 40, 90), rng.integers(0, 2**58, 90), strict=True)
    ]
    assert listed(in_order(table(rows))) == sorted(rows, key=lambda row: (row[0], row[2]))


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
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64, "split": SPLIT_TYPE}
    catalogue = pl.DataFrame({"item_id": items, "title": items})
    dataset = Dataset.build("x", catalogue, pl.DataFrame(rows, schema=schema, orient="row"), SplitInfo("source", {}))
    assert dataset.fingerprint == slow_fingerprint(items, [(user, item, split) for user, item, _, split in rows])
    assert dataset.interactions.rows() == sorted(rows, key=lambda row: row[0])
    divided, split = leave_one_out(dataset.events)
    again = Dataset.of("x", dataset.items, divided, split)
    assert again.fingerprint == slow_fingerprint(items, [(user, item, split) for user, item, _, split in again.interactions.rows()])
