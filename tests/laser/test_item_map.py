"""The items in the plane: expected values by hand, or from scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from laserrec.laser.item_map import FITTED, OTHER, evenly, item_kinds, principal_plane


def test_principal_plane_is_that_of_pca() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32) @ np.diag([5, 3, 1, 1, 1, 1, 1, 1]).astype(np.float32)
    reference = PCA(2).fit(vectors)
    expected = reference.transform(vectors)
    places, explained = principal_plane(vectors)
    np.testing.assert_allclose(np.abs(places), np.abs(expected), rtol=1e-3, atol=1e-3)
    assert explained == pytest.approx(tuple(reference.explained_variance_ratio_), rel=1e-4)
    assert principal_plane(np.ones((3, 4), np.float32))[1] == (0, 0)


def test_axes_of_many_vectors_are_found_from_evenly_spread_ones() -> None:
    vectors = np.random.default_rng(1).normal(size=(2 * FITTED, 3)).astype(np.float32) * np.array([4, 2, 1], np.float32)
    places, explained = principal_plane(vectors)
    np.testing.assert_allclose(np.abs(places), np.abs(PCA(2).fit_transform(vectors)), atol=0.2)
    assert explained == pytest.approx((16 / 21, 4 / 21), abs=0.02)


def test_no_vectors_have_no_places() -> None:
    places, explained = principal_plane(np.empty((0, 3), np.float32))
    assert (places.shape, explained) == ((0, 2), (0.0, 0.0))


def test_places_are_evenly_spread() -> None:
    assert evenly(9, 3).tolist() == [0, 4, 8]
    assert evenly(2, 3).tolist() == [0, 1]
    assert evenly(0, 3).tolist() == []


def test_kinds_of_items() -> None:
    paths = [{"title": "t", "category": f"Shop & Co {word} more", "id": str(place)} for place, word in enumerate(["Tents,", "Pans"] * 5)]
    assert item_kinds(paths) == {"category": ["Tents", "Pans"] * 5}
    genres = [{"genre": genre} for genre in ["Drama War", "Drama", "Comedy", "Crime"]] + [{}]
    assert item_kinds(genres) == {"genre": ["Drama", "Drama", "Comedy", "Crime", OTHER]}
    assert item_kinds([{"brand": f"b{place}"} for place in range(40)]) == {}
    assert item_kinds([{"brand": "one"}] * 9) == {}
    assert item_kinds([{"title": "one"}, {"title": "two"}]) == {}
    both = [{"genre": genre, "brand": brand} for genre, brand in [("War", "A"), ("War", "B"), ("Crime", "A"), ("Crime", "")]]
    assert list(item_kinds(both)) == ["genre", "brand"]  # the one that covers most items first
