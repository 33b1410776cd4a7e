"""Datasets with fewer users to learn from, or with items that training knows nothing of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laserrec.data.dataset import Dataset
from laserrec.data.inspection import inspect
from laserrec.data.restrict import hide_items, keep_users
from laserrec.data.splits import SplitInfo
from laserrec.data.tables import SPLIT_TYPE, SPLITS
from laserrec.errors import DataError

ITEMS = pl.DataFrame({"item_id": list("abcdefghij"), "title": list("ABCDEFGHIJ")})


def shop(users: int = 8) -> Dataset:
    """User u takes five of ten items in a row from the u-th: three to train on, one to validate, one to test."""
    splits = ("train", "train", "train", "valid", "test")
    rows = [(f"u{user}", "abcdefghij"[(user + step) % 10], step, split) for user in range(users) for step, split in enumerate(splits)]
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64, "split": SPLIT_TYPE}
    return Dataset.build("shop", ITEMS, pl.DataFrame(rows, schema=schema, orient="row"), SplitInfo("leave-one-out", {}))


def rows(ragged: object) -> list[list[int]]:
    return [list(map(int, row)) for row in ragged]  # type: ignore[attr-defined]


def test_users_left_out_are_read_but_not_learnt_from() -> None:
    whole, few = shop(), keep_users(shop(), 0.25)
    learnt = [user for user, history in enumerate(few.training_histories()) if len(history)]
    assert len(learnt) == 2
    assert all(rows(few.training_histories())[user] == rows(whole.training_histories())[user] for user in learnt)
    assert few.cases("valid").users.tolist() == learnt
    ours, theirs = few.cases("test"), whole.cases("test")
    assert ours.targets.tolist() == theirs.targets.tolist()
    assert rows(ours.histories) == rows(theirs.histories)  # the validation event is read there too, whoever's it is
    assert few.fingerprint != whole.fingerprint
    assert few.name == "shop, 25% of users"
    assert few.details["restricted"] == [{"fingerprint": whole.fingerprint, "users": 0.25, "seed": 0}]


def test_a_larger_share_holds_a_smaller_one() -> None:
    def learnt(share: float) -> set[int]:
        return {user for user, history in enumerate(keep_users(shop(), share).training_histories()) if len(history)}

    assert learnt(0.25) < learnt(0.5) < learnt(1.0) == set(range(8))


def test_restrictions_add_up() -> None:
    cold = hide_items(shop(), 0.1, seed=3)
    both = keep_users(cold, 0.015)
    assert both.name == "shop, 10% of items hidden, 1.5% of users"
    assert [set(each) - {"seed"} for each in both.details["restricted"]] == [{"fingerprint", "hidden_items"}, {"fingerprint", "users"}]
    assert both.details["restricted"][1]["fingerprint"] == cold.fingerprint


def test_all_users_are_the_same_split() -> None:
    assert keep_users(shop(), 1.0).fingerprint == shop().fingerprint


def test_at_least_one_user_is_kept() -> None:
    assert sum(bool(len(history)) for history in keep_users(shop(), 0.001).training_histories()) == 1


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_hidden_items_are_in_no_history_and_in_no_validation(share: float, seed: int) -> None:
    whole = shop(10)
    try:
        cold = hide_items(whole, share, seed)
    except DataError:
        assert share > 0.5  # nothing is left to learn from only where most items are hidden
        return
    hidden = set(range(10)) - {item for row in rows(cold.training_histories()) for item in row}
    assert len(hidden) >= max(1, round(0.1 * share * 10))
    assert not hidden & set(cold.cases("valid").targets.tolist())
    assert not hidden & {item for row in rows(cold.cases("test").histories) for item in row}
    before = {whole.user_ids[user]: target for user, target in zip(*(whole.cases("test").users, whole.cases("test").targets), strict=True)}
    after = {cold.user_ids[user]: target for user, target in zip(*(cold.cases("test").users, cold.cases("test").targets), strict=True)}
    assert all(before[user] == target for user, target in after.items())
    assert cold.item_ids == whole.item_ids


def test_how_many_items_are_hidden() -> None:
    cold = hide_items(shop(10), 0.3)
    # Ten users in a ring of ten items: each item is in training ten times over three users, so those that are gone were hidden.
    trained = np.unique(cold.training_histories().values)
    assert len(trained) == 7


@pytest.mark.parametrize("share", [-0.1, 0.0, 1.5, float("nan")])
def test_shares_of_users_outside_their_limits_are_refused(share: float) -> None:
    with pytest.raises(DataError, match=r"above 0 and at most 1; received"):
        keep_users(shop(), share)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_shares_of_items_outside_their_limits_are_refused(share: float) -> None:
    with pytest.raises(DataError, match=r"above 0 and below 1; received"):
        hide_items(shop(), share)


def test_a_restricted_dataset_is_saved_loaded_and_inspected(tmp_path: Path) -> None:
    few = keep_users(shop(), 0.25)
    few.save(tmp_path / "few")
    again = Dataset.load(tmp_path / "few")
    assert again.fingerprint == few.fingerprint
    assert again.details == few.details
    assert rows(again.training_histories()) == rows(few.training_histories())
    found = inspect(again)
    assert found.split_interactions == {"train": 6, "valid": 2, "test": 8, "history": 24}
    assert not found.leaks.found


def test_tables_of_before_there_was_a_history_part_are_read() -> None:
    whole = shop()
    older = whole.interactions.with_columns(pl.col("split").cast(pl.String).cast(pl.Enum(SPLITS)))
    assert Dataset.build("shop", ITEMS, older, whole.split).fingerprint == whole.fingerprint


def test_history_comes_before_train() -> None:
    wrong = shop().interactions.with_columns(
        pl.when(pl.col("timestamp") == 1).then(pl.lit("history", SPLIT_TYPE)).otherwise(pl.col("split")).alias("split")
    )
    with pytest.raises(DataError, match="history before train before valid before test"):
        Dataset.build("shop", ITEMS, wrong, SplitInfo("leave-one-out", {}))
