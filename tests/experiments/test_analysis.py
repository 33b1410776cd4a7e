"""Statistics of routed histories: expected values by hand, or from scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from analysis.kinds import Kinds, history_kinds
from analysis.routing import associate, normalised_information
from sklearn.metrics import normalized_mutual_info_score

from laserrec.data.ragged import Ragged
from laserrec.laser.item_map import OTHER


def test_normalised_information() -> None:
    # Rows tell columns: I = H = H, so 1. Independent counts: 0. One column alone tells nothing.
    assert normalised_information(np.array([[4, 0], [0, 6]])) == pytest.approx(1)
    assert normalised_information(np.array([[2, 4], [3, 6]])) == pytest.approx(0, abs=1e-12)
    assert normalised_information(np.array([[5], [7]])) == pytest.approx(0, abs=1e-12)
    assert normalised_information(np.array([[5]])) == 0
    rows, columns = np.random.default_rng(0).integers(0, [[4], [3]], (2, 500))
    table = np.zeros((4, 3), np.int64)
    np.add.at(table, (rows, columns), 1)
    assert normalised_information(table) == pytest.approx(normalized_mutual_info_score(rows, columns))


def test_association() -> None:
    values = np.repeat([3, 5, 8, 20], 10)
    lengths = Kinds.of_numbers("length", values)
    found = associate(lengths, (values > 5).astype(np.int64), 2)
    assert (found.by, list(found.labels)) == ("length", ["3", "5", "8", "20"])
    assert found.counts == [[10, 0], [10, 0], [0, 10], [0, 10]]
    # H(kind) = ln 4, H(expert) = I = ln 2: 2 ln 2 / (ln 4 + ln 2) = 2/3; no permutation of 999 comes near.
    assert found.information == pytest.approx(2 / 3)
    assert found.p_value == 1 / 1000
    assert found.chance < 0.1
    alternating = associate(lengths, np.tile([0, 1], 20), 2)
    assert (alternating.information, alternating.p_value) == (pytest.approx(0, abs=1e-12), 1.0)
    assert associate(lengths, np.zeros(40, np.int64), 2).p_value == 1.0


def test_numbers_are_divided_at_quantiles() -> None:
    found = Kinds.of_numbers("length", np.array([9, 1, 1, 2, 3, 4, 5, 6, 7, 8]))
    # Of ten, the 1st, 2nd, 4th, 6th and 8th begin a kind: 1, 1, 3, 5 and 7.
    assert (found.labels, found.rows.tolist()) == (["1–2", "3–4", "5–6", "7–9"], [3, 0, 0, 0, 1, 1, 2, 2, 3, 3])
    assert Kinds.of_numbers("length", np.array([6, 6, 6])).labels == ["6"]


def test_taste_is_the_kind_of_most_items() -> None:
    kinds = ["tents", "tents", "pans", OTHER, OTHER, "ropes"]
    histories = Ragged.from_rows(
        [
            [2, 0, 1],  # two tents
            [0, 2],  # one each: the pan came last
            [2, 3, 0],  # one each: the tent came last
            [0, 2, 2, 1, 3],  # two each of tents and pans: the tent came last of these
            [3, 4, 0],  # two without a kind
            [3],
            [3, 4, 4],
            [2],
            [0, 3, 1, 4],  # two tents and two without a kind, which came last
            [0],
        ]
    )
    found = Kinds.of_items("taste", histories, kinds)
    assert list(found.labels) == ["tents", "pans", OTHER]  # by users, ropes for nobody, others last though there are most of them
    assert [found.labels[row] for row in found.rows] == [
        *("tents", "pans", "tents", "tents"),
        *(OTHER, OTHER, OTHER, "pans", OTHER, "tents"),
    ]


def test_histories_have_a_taste_where_items_have_kinds() -> None:
    histories, popularity = Ragged.from_rows([[0, 1, 2], [2, 1]]), np.array([7, 1, 4])
    length, popular, taste = history_kinds(histories, popularity, "genre", ["war", "war", "crime"])
    assert (length.by, length.labels, length.rows.tolist()) == ("items in the history", ["2", "3"], [1, 0])
    # Medians are 4 and 2.5, of which the whole part counts.
    assert (popular.labels, popular.rows.tolist()) == (["2", "4"], [1, 0])
    assert (taste.by, taste.labels, taste.rows.tolist()) == ("genre of most items in the history", ["war"], [0, 0])
    assert [kinds.by for kinds in history_kinds(histories, popularity, None, [])] == [length.by, popular.by]
