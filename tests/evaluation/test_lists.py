"""What lists show beyond their target: by hand, and against loops over users and pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from laserrec.data.dataset import Dataset
from laserrec.data.splits import SplitInfo
from laserrec.data.tables import EVENT_TYPES
from laserrec.evaluation.lists import ListMeasures

TITLES = ("red pen", "red pen", "ink", "blue ink")
"""Of the items A, B, C and D."""


def shop(titles: Sequence[str], training: Sequence[Sequence[int]]) -> Dataset:
    """Return a dataset of items by number, whose users have one test event more."""
    items = pl.DataFrame({"item_id": [str(item) for item in range(len(titles))], "title": list(titles)})
    rows = [(f"{user:02}", str(item), 0, "train") for user, history in enumerate(training) for item in history]
    rows += [(f"{user:02}", "0", 1, "test") for user in range(len(training))]
    events = pl.DataFrame(rows, schema=dict(EVENT_TYPES), orient="row")
    return Dataset.build("shop", items, events.sort("user_id", "timestamp", maintain_order=True), SplitInfo("source", {}))


def test_three_users_by_hand() -> None:
    # A has four events of three users, B and C one each, D none.
    measures = ListMeasures.of(shop(TITLES, [[0, 1], [0, 0], [0, 2]]))
    # C D, D alone, B A; the targets are D, D and A.
    found = measures.measure(np.array([[2, 3], [3, -1], [1, 0]]), np.array([3, 3, 0]), 2)
    assert found["coverage@2"] == 1
    assert found["arp@2"] == pytest.approx(((1 + 0) / 2 + 0 / 1 + (1 + 4) / 2) / 3)
    # Everybody has A, which is no news; one of three has B or C, and D counts as much.
    assert found["miuf@2"] == pytest.approx((math.log2(3) + math.log2(3) + (math.log2(3) + 0) / 2) / 3)
    # D would be recommended to nobody. Its place is second of four, 3/4, and then first. A is everybody's, so it is no surprise.
    assert found["serendipity@2"] == pytest.approx(((0 + 3 / 4) / 2 + 1 / 1 + 0) / 3)
    # "ink" is in two of four texts, "blue" in one. A and B have the same text; a list of one has no distance.
    ink, blue = 1 + math.log(5 / 3), 1 + math.log(5 / 2)
    assert found["ild@2"] == pytest.approx(((1 - ink / math.hypot(ink, blue)) + 0 + 0) / 3, rel=1e-6)


def test_empty_lists_are_no_users() -> None:
    measures = ListMeasures.of(shop(TITLES, [[0, 1], [0, 0], [0, 2]]))
    one, both = np.array([[2, 3]]), np.array([[-1, -1], [2, 3]])
    assert measures.measure(both, np.array([0, 3]), 2) == measures.measure(one, np.array([3]), 2)
    assert measures.measure(both[:1], np.array([0]), 2) == {"coverage@2": 0}
    assert measures.measure(both[:1], np.array([0]), 10) == {"coverage@10": 0}  # asked for more than the catalogue has


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[str], list[list[int]], list[list[int]], list[int]]:
    """Draw titles, training histories, lists of unequal length without repetition, and targets."""
    titles = draw(st.lists(st.lists(st.sampled_from(["red", "blue", "pen", "ink"]), max_size=4).map(" ".join), min_size=2, max_size=6))
    item = st.integers(0, len(titles) - 1)
    count = draw(st.integers(1, 5))
    some = [draw(st.lists(each, min_size=count, max_size=count)) for each in (st.lists(item, max_size=5), st.lists(item, unique=True))]
    return titles, some[0], some[1], draw(st.lists(item, min_size=count, max_size=count))


@settings(max_examples=60, deadline=None)
@given(cases())
def test_equal_to_loops(drawn: tuple[list[str], list[list[int]], list[list[int]], list[int]]) -> None:
    titles, training, lists, targets = drawn
    total, k = len(titles), max(1, *map(len, lists))
    found = ListMeasures.of(shop(titles, training)).measure(
        np.array([[*row, *[-1] * (k - len(row))] for row in lists]), np.array(targets), k
    )
    vectors = TfidfVectorizer(sublinear_tf=True).fit([*titles, "some word"])
    if any(title for title in titles):
        vectors = TfidfVectorizer(sublinear_tf=True).fit(titles)
    rows = vectors.transform(titles).toarray()
    events = [item for history in training for item in history]
    users = sum(1 for history in training if history)
    different = sorted({events.count(item) for item in events}, reverse=True)
    per_user: list[tuple[float, float, float, float]] = []
    for row, target in zip(lists, targets, strict=True):
        if not row:
            continue
        distances = [1 - rows[one] @ rows[other] for place, one in enumerate(row) for other in row[:place]]
        novelty = [-math.log2(max(1, sum(item in history for history in training)) / max(users, 1)) for item in row]
        serendipity = 0.0
        if target in row:
            everybody = (total - different.index(events.count(target))) / total if target in events else 0.0
            serendipity = max((total - row.index(target)) / total - everybody, 0.0) / len(row)
        popularity = [events.count(item) for item in row]
        per_user.append((float(np.mean(distances)) if distances else 0.0, float(np.mean(novelty)), serendipity, float(np.mean(popularity))))
    expected = {f"coverage@{k}": len({item for row in lists for item in row}) / total}
    if per_user:
        means = np.mean(per_user, axis=0)
        expected |= {f"{name}@{k}": float(mean) for name, mean in zip(("ild", "miuf", "serendipity", "arp"), means, strict=True)}
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-7)
