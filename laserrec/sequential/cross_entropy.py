"""Cross-entropy over a whole catalogue whose logits are never held at once: a part of them is made, turned into gradients, and forgotten.

Training computes both ways in one pass, so nothing is made twice; logits of 1,000 positions over 100,000 items, with what autograd keeps of
them, would take more than a gigabyte. Parts that stay in the processor's cache are also faster than one product that does not
(docs/explanation/performance.md).

Dimensions: P positions, N catalogue, D width, L pairs that are lowered.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

HELD, HELD_ELSEWHERE = 2**19, 2**26
"""Logits that are held at a time: on a CPU what a core's cache holds."""
LEAST_ROWS = 128
"""Of a part, however long the catalogue: products with fewer rows are slow."""


class Lowered(NamedTuple):
    """Logits that are lowered before the softmax.

    Attributes:
        row: int64 [L], ascending.
        item: int64 [L]; each pair of row and item once.
        amount: what is taken from them, a scalar.
    """

    row: Tensor
    item: Tensor
    amount: Tensor


def catalogue_cross_entropy(
    states: Tensor, table: Tensor, targets: Tensor, lowered: Lowered | None = None, left_out: Tensor | None = None
) -> Tensor:
    """Return the mean of −log softmax(states · tableᵀ)[target]; 0, with gradients of 0, where there is no position.

    Args:
        states: float [P, D].
        table: vectors of the items, float [N, D].
        targets: int64 [P].
        lowered: logits that are lowered first.
        left_out: items that the softmax is not over, int64; none of them may be a target.

    Returns:
        A scalar, with a gradient to the states, the table and the amount.
    """
    row, item, amount = lowered or (targets[:0], targets[:0], states.new_zeros(()))
    without = targets[:0] if left_out is None else left_out
    loss: Tensor = _CatalogueCrossEntropy.apply(states, table, targets, row, item, amount, without)  # type: ignore[no-untyped-call]
    return loss


class _CatalogueCrossEntropy(torch.autograd.Function):
    """Computes the gradients along with the value."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - untyped in torch
        states: Tensor,
        table: Tensor,
        targets: Tensor,
        row: Tensor,
        item: Tensor,
        amount: Tensor,
        left_out: Tensor,
    ) -> Tensor:
        rows = max(LEAST_ROWS, (HELD if states.device.type == "cpu" else HELD_ELSEWHERE) // len(table))
        starts = torch.arange(0, len(states) + rows, rows, device=row.device)
        bounds = torch.searchsorted(row, starts).tolist()
        given = (states, table, amount)
        slopes = tuple(torch.zeros_like(each) for each in given) if any(ctx.needs_input_grad) else None
        room = states.new_empty(min(rows, len(states)), len(table))
        total = states.new_zeros(())
        for number, start in enumerate(range(0, len(states), rows)):
            part, following = states[start : start + rows], targets[start : start + rows]
            pairs = slice(bounds[number], bounds[number + 1])
            seen = row[pairs] - start, item[pairs]
            logits = torch.mm(part, table.T, out=room[: len(part)])
            logits[seen] -= amount
            logits.index_fill_(1, left_out, -torch.inf)
            total += _to_probabilities(logits, following)
            if slopes is not None:
                _add_slopes(slopes, start, part, table, logits, following, seen)
        count = max(len(states), 1)
        if slopes is not None:
            ctx.save_for_backward(*(slope / count for slope in slopes))
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        states, table, amount = (slope * kept for kept in ctx.saved_tensors)
        return states, table, None, None, None, amount, None


def _to_probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    """Turn logits [P, N] into probabilities, in place, and return the sum of the targets' −log of them."""
    rows = torch.arange(len(logits), device=logits.device)
    wanted = logits[rows, targets]
    highest = logits.amax(1, keepdim=True)
    sums = logits.sub_(highest).exp_().sum(1, keepdim=True)
    logits.div_(sums)
    return ((highest + sums.log())[:, 0] - wanted).sum()


def _add_slopes(
    slopes: tuple[Tensor, ...], start: int, part: Tensor, table: Tensor, chances: Tensor, targets: Tensor, seen: tuple[Tensor, Tensor]
) -> None:
    """Add what a part's probabilities [P, N] contribute to the gradients of states, table and amount; the probabilities are used up."""
    states, items, amount = slopes
    chances[torch.arange(len(part), device=part.device), targets] -= 1
    torch.mm(chances, table, out=states[start : start + len(part)])
    items.addmm_(chances.T, part)
    amount -= chances[seen].sum()
