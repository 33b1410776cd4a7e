"""TF-IDF by hand and against scikit-learn, which tokenises and counts by code of its own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from laserrec.layers.tf_idf import text_kernel, tf_idf

WORDS = ["pen", "Pen", "blue-ink", "a", "x2", "ÄRGER", "12.5", "", "_", "naïve", "笔记"]


def test_vectors_are_those_of_a_count_by_hand() -> None:
    # Of three texts two hold "pen" and one each "red" and "ink"; a single letter is no word.
    pen, other = 1 + math.log(4 / 3), 1 + math.log(4 / 2)
    first, second = np.array([0, (1 + math.log(2)) * pen, other]), np.array([other, pen, 0])
    expected = [first / np.linalg.norm(first), second / np.linalg.norm(second), np.zeros(3)]
    np.testing.assert_allclose(tf_idf(["Red pen, a PEN", "Pen ink", "?"]).to_dense().numpy(), expected, rtol=1e-6)


@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), min_size=1, max_size=6))
def test_vectors_are_scikit_learns(texts: list[str]) -> None:
    texts.append("pen")  # scikit-learn refuses texts without any word
    expected = TfidfVectorizer(sublinear_tf=True).fit_transform(texts).toarray()
    np.testing.assert_allclose(tf_idf(texts).to_dense().numpy(), expected, atol=1e-6)


def test_texts_without_words_are_near_to_none() -> None:
    items, mask = torch.tensor([[0]]), torch.ones(1, 1, dtype=torch.bool)
    assert text_kernel(["", "?"]).scores(items, mask).tolist() == [[0, 0]]


def test_scores_are_cosines_faded_by_age() -> None:
    kernel = text_kernel(["red pen", "blue pen", "red ink", "blue ink", "oil"])
    items, mask = torch.tensor([[0, 1, 1], [4, 0, 0]]), torch.tensor([[True, True, False], [True, False, False]])
    # Each word but "oil" stands in two of five texts, so all weigh the same: two texts with a common word have a cosine of a half.
    expected = [[0, 0, math.asinh(0.75 * 0.5 / 0.1), math.asinh(0.5 / 0.1), 0], [0, 0, 0, 0, 0]]
    assert kernel.scores(items, mask).tolist() == [pytest.approx(row, abs=1e-6) for row in expected]
