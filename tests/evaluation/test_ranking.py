"""Ranks and lists against brute force over every item."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from laserrec.errors import TrainingError
from laserrec.evaluation import ranking
from laserrec.evaluation.ranking import best, exclude, target_ranks

# A handful of values, so that ties abound; quarters, so that sums of products are exact.
VALUES = st.sampled_from([-1.0, -0.25, 0.0, 0.25, 0.5, 2.0])


@st.composite
def matrices(draw: st.DrawFn, rows: int | None = None, columns: int | None = None) -> Tensor:
    rows, columns = rows or draw(st.integers(1, 5)), columns or draw(st.integers(1, 9))
    return torch.tensor(draw(st.lists(st.lists(VALUES, min_size=columns, max_size=columns), min_size=rows, max_size=rows)))


@st.composite
def histories(draw: st.DrawFn, rows: int, catalogue: int) -> tuple[Tensor, Tensor]:
    length = draw(st.integers(0, 6))
    cells = st.tuples(st.integers(0, catalogue - 1), st.booleans())
    drawn = draw(st.lists(st.lists(cells, min_size=length, max_size=length), min_size=rows, max_size=rows))
    items = torch.tensor([[item for item, _ in row] for row in drawn], dtype=torch.int64).reshape(rows, length)
    return items, torch.tensor([[real for _, real in row] for row in drawn], dtype=torch.bool).reshape(rows, length)


def brute_list(scores: list[float], forbidden: set[int], k: int) -> list[int]:
    allowed = sorted((-score, item) for item, score in enumerate(scores) if item not in forbidden)
    return ([item for _, item in allowed] + [-1] * k)[: min(k, len(scores))]


def forbidden(items: Tensor, mask: Tensor) -> list[set[int]]:
    return [{item for item, real in zip(row, reals, strict=True) if real} for row, reals in zip(items.tolist(), mask.tolist(), strict=True)]


@given(st.data())
def test_rank_is_one_plus_the_others_at_least_as_high(data: st.DataObject) -> None:
    scores = data.draw(matrices())
    target = data.draw(st.integers(0, scores.shape[1] - 1))
    ranks = target_ranks(scores, torch.full((len(scores),), target)).tolist()
    for row, rank in zip(scores.tolist(), ranks, strict=True):
        assert rank == 1 + sum(other >= row[target] for item, other in enumerate(row) if item != target)


@given(st.data())
def test_rank_does_not_depend_on_the_catalogue_order(data: st.DataObject) -> None:
    scores = data.draw(matrices())
    order = torch.tensor(data.draw(st.permutations(range(scores.shape[1]))))
    targets = torch.tensor(data.draw(st.lists(st.integers(0, scores.shape[1] - 1), min_size=len(scores), max_size=len(scores))))
    moved = order.argsort()[targets]
    assert target_ranks(scores, targets).equal(target_ranks(scores[:, order], moved))


def test_a_constant_scorer_ranks_last() -> None:
    assert target_ranks(torch.zeros(2, 7), torch.tensor([0, 6])).tolist() == [7, 7]


@given(st.data())
def test_exclusion_counts_only_what_was_not_seen(data: st.DataObject) -> None:
    scores = data.draw(matrices())
    items, mask = data.draw(histories(len(scores), scores.shape[1]))
    target = data.draw(st.integers(0, scores.shape[1] - 1))
    targets = torch.full((len(scores),), target)
    before = scores.clone()
    ranks = target_ranks(exclude(scores, items, mask, keep=targets), targets).tolist()
    assert scores.equal(before)
    for row, seen, rank in zip(scores.tolist(), forbidden(items, mask), ranks, strict=True):
        assert rank == 1 + sum(row[item] >= row[target] for item in set(range(len(row))) - seen - {target})


def test_exclusion_without_targets_spares_nothing() -> None:
    excluded = exclude(torch.arange(4.0)[None], torch.tensor([[3, 0, 1]]), torch.tensor([[True, True, False]]))
    assert excluded.tolist() == [[-torch.inf, 1.0, 2.0, -torch.inf]]


@given(st.data())
def test_best_equals_sorting(data: st.DataObject) -> None:
    scores, k = data.draw(matrices()), data.draw(st.integers(0, 12))
    found = best(scores, k)
    assert found.items.tolist() == [brute_list(row, set(), k) for row in scores.tolist()]
    assert scores.gather(1, found.items).equal(found.scores)


@given(st.data())
def test_recommendable_items_equal_sorting_what_was_not_seen(data: st.DataObject) -> None:
    scores = data.draw(matrices())
    items, mask = data.draw(histories(len(scores), scores.shape[1]))
    k = data.draw(st.integers(1, 12))
    found = best(exclude(scores, items, mask), k)
    assert found.items.tolist() == [brute_list(row, seen, k) for row, seen in zip(scores.tolist(), forbidden(items, mask), strict=True)]
    assert found.scores.isneginf().equal(found.items < 0)


@pytest.mark.parametrize("k", [1, 7, 300])
def test_a_long_catalogue_with_many_ties_equals_sorting(k: int) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(-256, 257, (9, 10_007), generator=generator).float()
    seen = torch.randint(0, 10_007, (9, 5_000), generator=generator)
    for given_scores in (scores, scores.scatter(1, seen, -torch.inf)):
        expected = given_scores.sort(dim=1, descending=True, stable=True)
        found = best(given_scores, k)
        assert found.items.equal(expected.indices[:, :k])
        assert found.scores.equal(expected.values[:, :k])


@given(st.data())
def test_groups_of_neighbours_change_nothing(data: st.DataObject) -> None:
    scores = data.draw(matrices()).repeat(1, data.draw(st.integers(1, 12)))
    items, mask = data.draw(histories(len(scores), scores.shape[1]))
    k = data.draw(st.integers(1, 3))
    expected = [brute_list(row, seen, k) for row, seen in zip(scores.tolist(), forbidden(items, mask), strict=True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "GROUP", 2)
        assert best(exclude(scores, items, mask), k).items.tolist() == expected


class Held(TorchDispatchMode):
    """Counts the bytes of all storages that torch's operations made and that still live, and keeps the highest sum."""

    def __init__(self, *outside: Tensor) -> None:
        super().__init__()
        self.outside = {tensor.untyped_storage().data_ptr() for tensor in outside}
        self.living: dict[int, StorageWeakRef] = {}
        self.bytes: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:  # noqa: ANN401
        out = func(*args, **(kwargs or {}))
        self.living = {place: storage for place, storage in self.living.items() if not storage.expired()}
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.numel() and (place := leaf.untyped_storage().data_ptr()) not in self.outside:
                self.living[place], self.bytes[place] = StorageWeakRef(leaf.untyped_storage()), leaf.untyped_storage().nbytes()
        self.peak = max(self.peak, sum(self.bytes[place] for place in self.living))
        return out


def test_what_is_held_is_counted() -> None:
    with Held() as held:
        one = torch.zeros(1000)
        one[5:].add_(1)
        del one
        two = torch.ones(500) + torch.ones(500)
    assert len(two) == 500
    assert held.peak == 4 * 1500


def test_sorting_ties_holds_little() -> None:
    scores = torch.zeros(64, 10_000)
    with Held(scores) as held:
        assert best(scores, 100).items.tolist() == [list(range(100))] * 64
    # One byte a score to find the ties, and the lists, where all rows sorted at once would take sixteen.
    assert held.peak < 2 * scores.numel()


def test_no_histories() -> None:
    assert best(torch.empty(0, 5), 2).items.shape == (0, 2)


def test_nan_is_refused() -> None:
    scores = torch.tensor([[1.0, 2.0], [torch.nan, 0.0]])
    for call in (lambda: target_ranks(scores, torch.tensor([0, 1])), lambda: best(scores, 1)):
        with pytest.raises(TrainingError, match="history 1 hold NaN"):
            call()
