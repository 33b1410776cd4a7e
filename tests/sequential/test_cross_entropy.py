"""Cross-entropy in parts, against torch's over all logits at once, in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

from laserrec.sequential import cross_entropy as module
from laserrec.sequential.cross_entropy import Lowered, catalogue_cross_entropy


@pytest.fixture(params=[1, 3, 1000], ids=["rows apart", "three at a time", "at once"])
def rows_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(module, "HELD", 1)
    monkeypatch.setattr(module, "LEAST_ROWS", request.param)
    return request.param


def case(positions: int, items: int = 11, width: int = 4) -> tuple[Tensor, Tensor, Tensor, Lowered]:
    draw = torch.Generator().manual_seed(positions)
    states = torch.randn(positions, width, generator=draw, dtype=torch.float64, requires_grad=True)
    table = torch.randn(items, width, generator=draw, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(items, (positions,), generator=draw)
    row, item = (torch.rand(positions, items, generator=draw) < 0.3).nonzero(as_tuple=True)
    return states, table, targets, Lowered(row, item, torch.tensor(1.7, dtype=torch.float64, requires_grad=True))


def whole(states: Tensor, table: Tensor, targets: Tensor, lowered: Lowered) -> Tensor:
    """Everything at once, by torch."""
    lower = torch.zeros(len(states), len(table), dtype=states.dtype).index_put((lowered.row, lowered.item), lowered.amount)
    return cross_entropy(states @ table.T - lower, targets)


@pytest.mark.parametrize("positions", [1, 3, 4, 7])
def test_is_what_torch_computes_at_once(positions: int, rows_at_once: int) -> None:
    states, table, targets, lowered = case(positions)
    inputs = (states, table, lowered.amount)
    expected = whole(states, table, targets, lowered)
    found = catalogue_cross_entropy(states, table, targets, lowered)
    torch.testing.assert_close(found, expected)
    for slope, wanted in zip(torch.autograd.grad(2 * found, inputs), torch.autograd.grad(2 * expected, inputs), strict=True):
        torch.testing.assert_close(slope, wanted)


def test_gradients_by_finite_differences(rows_at_once: int) -> None:
    states, table, targets, lowered = case(5)

    def loss(states: Tensor, table: Tensor, amount: Tensor) -> Tensor:
        return catalogue_cross_entropy(states, table, targets, Lowered(lowered.row, lowered.item, amount))

    assert torch.autograd.gradcheck(loss, (states, table, lowered.amount))


def test_items_left_out_are_no_wrong_answers_and_learn_nothing(rows_at_once: int) -> None:
    states, table, _, lowered = case(7)
    targets = torch.tensor([0, 1, 3, 4, 6, 9, 10])
    found = catalogue_cross_entropy(states, table, targets, lowered, torch.tensor([2, 5, 7, 8]))
    kept = torch.tensor([0, 1, 3, 4, 6, 9, 10])
    lower = torch.zeros(7, 11, dtype=torch.float64).index_put((lowered.row, lowered.item), lowered.amount)
    expected = cross_entropy((states @ table.T - lower)[:, kept], torch.arange(7))
    torch.testing.assert_close(found, expected)
    inputs = (states, table, lowered.amount)
    slopes = torch.autograd.grad(found, inputs)
    for slope, wanted in zip(slopes, torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(slope, wanted)
    assert not slopes[1][[2, 5, 7, 8]].any()


def test_by_hand() -> None:
    # Logits (ln 3, 0) and (0, 0): −ln(3/4) and −ln(1/2), averaged. Lowering the first by ln 3 makes both −ln(1/2).
    states, table = torch.tensor([[math.log(3.0)], [0.0]]), torch.tensor([[1.0], [0.0]])
    found = catalogue_cross_entropy(states, table, torch.tensor([0, 1]))
    assert found.item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    lowered = Lowered(torch.tensor([0]), torch.tensor([0]), torch.tensor(math.log(3.0)))
    assert catalogue_cross_entropy(states, table, torch.tensor([0, 1]), lowered).item() == pytest.approx(math.log(2))


def test_no_position_gives_no_loss_and_no_gradient() -> None:
    states, table, targets, lowered = case(0)
    found = catalogue_cross_entropy(states, table, targets, lowered)
    assert found.item() == 0
    for slope in torch.autograd.grad(found, (table, lowered.amount)):
        assert not slope.any()


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_large_logits_stay_finite(first: float, second: float) -> None:
    states, table = torch.tensor([[1.0]], requires_grad=True), torch.tensor([[first], [second]])
    found = catalogue_cross_entropy(states, table, torch.tensor([0]))
    torch.testing.assert_close(found, cross_entropy(torch.tensor([[first, second]]), torch.tensor([0])), rtol=1e-5, atol=1e-3)
    found.backward()
    assert states.grad is not None
    assert states.grad.isfinite().all()


def test_what_is_not_finite_is_not_hidden() -> None:
    states = torch.tensor([[math.nan], [1.0]])
    assert catalogue_cross_entropy(states, torch.ones(3, 1), torch.tensor([0, 1])).isnan()


def test_logits_are_never_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain product of 4,000 positions with 2,000 items would alone be 32 MB."""
    monkeypatch.setattr(module, "HELD", 1)
    states, table = torch.randn(4000, 8, requires_grad=True), torch.randn(2000, 8, requires_grad=True)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        catalogue_cross_entropy(states, table, torch.zeros(4000, dtype=torch.int64)).backward()
    largest = max(event.self_cpu_memory_usage for event in profile.events())
    assert largest == 4 * module.LEAST_ROWS * 2000
