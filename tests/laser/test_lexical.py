"""Word nearness: vectors counted by hand and by scikit-learn's definition, scores by a plain loop."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from laserrec.laser.lexical import DECAY, FLOOR, Lexical

CPU, VOCABULARY = torch.device("cpu"), 6


def vectors(lexical: Lexical) -> list[dict[int, float]]:
    """Return each text's vector as a mapping."""
    tokens, values, counts = lexical.gathered(torch.arange(len(lexical)))
    parts = zip(tokens.split(counts.tolist()), values.split(counts.tolist()), strict=True)
    return [dict(zip(part.tolist(), numbers.tolist(), strict=True)) for part, numbers in parts]


def by_hand(texts: list[list[int]], idf: dict[int, float]) -> list[dict[int, float]]:
    found = []
    for text in texts:
        raw = {token: (1 + math.log(text.count(token))) * idf[token] for token in set(text)}
        length = math.sqrt(sum(value**2 for value in raw.values()))
        found.append({token: value / length if length else 0.0 for token, value in raw.items()})
    return found


def frequencies(texts: list[list[int]]) -> dict[int, float]:
    return {token: math.log((1 + len(texts)) / (1 + sum(token in text for text in texts))) for token in range(VOCABULARY)}


def test_vectors_by_hand() -> None:
    """Token 0 is in two of three texts, 1 in two, 2 in one: ln 4/3, ln 4/3, ln 2."""
    found = vectors(Lexical.of([[0, 0, 1], [1, 2], [0]], VOCABULARY, CPU))
    rare, common = math.log(2), math.log(4 / 3)
    twice = (1 + math.log(2)) * common
    assert found[0] == pytest.approx({0: twice / math.hypot(twice, common), 1: common / math.hypot(twice, common)})
    assert found[1] == pytest.approx({1: common / math.hypot(common, rare), 2: rare / math.hypot(common, rare)})
    assert found[2] == pytest.approx({0: 1.0})


texts_of = st.lists(st.lists(st.integers(0, VOCABULARY - 1), max_size=5), min_size=1, max_size=6)


@given(texts_of, texts_of, st.data())
def test_lists_that_grow_and_change_their_order(first: list[list[int]], more: list[list[int]], data: st.DataObject) -> None:
    """Further texts and another order give the vectors of those texts, under the first list's frequencies."""
    grown = Lexical.of(first, VOCABULARY, CPU).with_texts(more, torch.arange(len(more)) + len(first), len(first) + len(more))
    expected, idf = first + more, frequencies(first)
    assert len(grown) == len(expected)
    for got, want in zip(vectors(grown), by_hand(expected, idf), strict=True):
        assert got == pytest.approx(want, abs=1e-6)
    order = data.draw(st.lists(st.integers(0, len(expected) - 1), max_size=8))
    taken = vectors(grown.take(torch.tensor(order, dtype=torch.int64)))
    for got, want in zip(taken, by_hand([expected[place] for place in order], idf), strict=True):
        assert got == pytest.approx(want, abs=1e-6)


@given(texts_of, st.data())
def test_scores(texts: list[list[int]], data: st.DataObject) -> None:
    """The sum over a history's items, its own left out, an unknown one without effect."""
    count = len(texts)
    history = data.draw(st.lists(st.integers(0, count), min_size=1, max_size=4))
    lexical, vector = Lexical.of(texts, VOCABULARY, CPU), by_hand(texts, frequencies(texts))
    items, mask = torch.tensor([history, [0] * len(history)]), torch.tensor([[True] * len(history), [False] * len(history)])
    got = lexical.scores(lexical.query(items, mask), items, mask)
    known = [item for item in history if item < count]
    for item in range(count):
        near = sum(
            DECAY**age * sum(value * vector[item].get(token, 0.0) for token, value in vector[other].items())
            for age, other in enumerate(reversed(known))
        )
        assert got[0, item].item() == pytest.approx(0.0 if item in known else math.log1p(max(near, 0.0) / FLOOR), abs=1e-4)
    assert got[1].tolist() == [0.0] * count
