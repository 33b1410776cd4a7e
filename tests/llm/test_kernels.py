"""Kernels and attention against plain autograd, with gradients by finite differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu

from laserrec.llm import buckets
from laserrec.llm.attention import attend, attend_alone
from laserrec.llm.buckets import LengthBucket
from laserrec.llm.kernels import Kernels, RotaryAngles, can_compile

PLAIN = Kernels()
C, G, R = 4, 2, 3


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)), dtype=torch.float64)


def angles(rows: int, length: int, seed: int = 0) -> RotaryAngles:
    angle = draw(rows, length, C // 2, seed=seed)
    return angle.cos(), angle.sin()


def test_norm_by_hand() -> None:
    # The mean of 3² and 4² is 12.5; without epsilon the norm of (3, 4) is (3, 4) / sqrt(12.5).
    normed = PLAIN.norm(torch.tensor([[3.0, 4.0]], dtype=torch.float64), torch.tensor([1.0, 2.0], dtype=torch.float64), 0.0)
    torch.testing.assert_close(normed, torch.tensor([[3.0, 8.0]], dtype=torch.float64) / math.sqrt(12.5))


def test_turn_by_hand() -> None:
    # A quarter turn takes (first, second) to (-second, first); with C = 4 the pairs are (0, 2) and (1, 3).
    states = torch.arange(8.0, dtype=torch.float64).view(1, 1, 2, 4)
    turned = PLAIN.rotate(states, torch.zeros(1, 1, 2, dtype=torch.float64), torch.ones(1, 1, 2, dtype=torch.float64))
    assert turned.tolist() == [[[[-2.0, -3.0, 0.0, 1.0]], [[-6.0, -7.0, 4.0, 5.0]]]]


def test_turning_over_is_turning() -> None:
    states, turn = draw(2, 3, 5, C), angles(2, 3)
    own = states.transpose(1, 2).contiguous()
    PLAIN.rotate_in_place(own, *turn)
    torch.testing.assert_close(own, PLAIN.rotate(states, *turn))


def test_gradients_by_finite_differences() -> None:
    states, weight = draw(3, 5).requires_grad_(), draw(5, seed=1)
    assert torch.autograd.gradcheck(lambda x: PLAIN.norm(x, weight, 1e-5), states)
    gate, up = draw(3, 6).requires_grad_(), draw(3, 6, seed=2).requires_grad_()
    torch.testing.assert_close(PLAIN.swiglu(gate, up), silu(gate) * up)
    assert torch.autograd.gradcheck(PLAIN.swiglu, (gate, up))


def test_turning_back_is_the_adjoint_of_turning() -> None:
    states, gradient, turn = draw(2, 3, 5, C), draw(2, 5, 3, C, seed=3), angles(2, 3)
    there = (PLAIN.rotate(states, *turn) * gradient).sum()
    torch.testing.assert_close((states * PLAIN.rotate_back(gradient, *turn)).sum(), there)


@dataclass(frozen=True)
class Fixed:
    """A context of given keys and values."""

    keys: Tensor
    values: Tensor
    mask: Tensor

    @property
    def positions(self) -> Tensor:
        return torch.arange(self.keys.shape[1]).expand(len(self.keys), -1)

    def layer(self, index: int, room: int) -> Tensor:
        both = torch.stack([self.keys * (index + 1), self.values - index], dim=1).transpose(2, 3)
        return torch.cat([both, torch.full((*both.shape[:3], room, C), torch.nan, dtype=both.dtype)], dim=3)


def groups(lengths: Sequence[tuple[int, int, int]]) -> list[LengthBucket]:
    """Build groups from (rows, new tokens, context tokens); every second row of a context lacks its last token."""
    built, start = [], 0
    for rows, length, far in lengths:
        mask = torch.ones(rows, far, dtype=torch.bool)
        mask[1::2, -1:] = False
        context = Fixed(draw(rows, far, G, C), draw(rows, far, G, C, seed=1), mask) if far else None
        turn = angles(rows, far, seed=far) if far else None
        built.append(LengthBucket(start, rows, length, angles(rows, length), context, turn, padded=bool(far) and rows > 1))
        start = built[-1].end
    return built


def plain_attention(query: Tensor, key: Tensor, value: Tensor, parts: Sequence[LengthBucket], layer: int) -> Tensor:
    """Token by token and head by head, with one softmax over everything a token may see."""
    mixed = []
    for group in parts:
        queries, keys = group.take(query, C), group.take(key, C)
        values = group.take(value, C)
        for row in range(group.rows):
            for place in range(group.length):
                for head in range(G * R):
                    asked = one_turn(queries[row, place, head], group.angles, row, place)
                    seen = [(one_turn(keys[row, t, head // R], group.angles, row, t), values[row, t, head // R]) for t in range(place + 1)]
                    if isinstance(group.context, Fixed) and group.context_angles:
                        far_keys, far_values = group.context.layer(layer, 0)[row, :, head // R]
                        real = group.context.mask[row].nonzero()[:, 0].tolist()
                        seen += [(one_turn(far_keys[t], group.context_angles, row, t), far_values[t]) for t in real]
                    weights = torch.stack([asked @ k for k, _ in seen]).div(C**0.5).softmax(0)
                    mixed.append(sum((w * v for w, (_, v) in zip(weights, seen, strict=True)), torch.zeros(C, dtype=torch.float64)))
    return torch.cat(mixed).view(len(query), -1)


def one_turn(state: Tensor, turn: RotaryAngles, row: int, place: int) -> Tensor:
    cosine, sine = (part[row if len(part) > 1 else 0, place] for part in turn)
    first, second = state[: C // 2], state[C // 2 :]
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine])


@pytest.mark.parametrize("shape", [[(2, 5, 0)], [(3, 2, 4)], [(1, 5, 0), (2, 3, 3), (1, 1, 2)]])
@pytest.mark.parametrize("block", [2, 64])
def test_attention_is_the_plain_one(monkeypatch: pytest.MonkeyPatch, shape: list[tuple[int, int, int]], block: int) -> None:
    monkeypatch.setattr(buckets, "QUERY_BLOCK", block)
    parts = groups(shape)
    inputs = [draw(parts[-1].end, heads * C, seed=heads).requires_grad_() for heads in (G * R, G, G)]
    same_attention(inputs, attend(*inputs, parts, 1, C, PLAIN), plain_attention(*inputs, parts, 1))


def test_attention_as_gpus_do_it_is_the_plain_one() -> None:
    parts = groups([(3, 5, 0)])
    inputs = [draw(parts[-1].end, heads * C, seed=heads).requires_grad_() for heads in (G * R, G, G)]
    same_attention(inputs, attend_alone(*inputs, parts[0], C, PLAIN), plain_attention(*inputs, parts, 1))


def same_attention(inputs: Sequence[Tensor], found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected)
    weights = draw(*found.shape, seed=9)
    own, theirs = (torch.autograd.grad((out * weights).sum(), inputs) for out in (found, expected))
    for actual, wanted in zip(own, theirs, strict=True):
        torch.testing.assert_close(actual, wanted)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch about itself, while it imports its compiler
@pytest.mark.skipif(not can_compile(), reason="compiling needs a C++ compiler")
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_fused_kernels_are_the_plain_ones(dtype: torch.dtype, bound: float) -> None:
    fused = Kernels(fused=True)
    states, weight, gate, up = (draw(*shape).to(dtype) for shape in ((7, 16), (16,), (7, 12), (7, 12)))
    heads, turn = draw(2, 3, 5, C).to(dtype), angles(2, 3)
    turn = turn[0].to(dtype), turn[1].to(dtype)
    gradient, factor = draw(7, 16, seed=4).to(dtype), PLAIN.norm_forward(states, weight, 1e-5)[1]
    in_place = [heads.transpose(1, 2).contiguous() for _ in range(2)]
    for kernels, own in zip((fused, PLAIN), in_place, strict=True):
        kernels.rotate_in_place(own, *turn)
    for one, other in (
        *zip(fused.norm_forward(states, weight, 1e-5), PLAIN.norm_forward(states, weight, 1e-5), strict=True),
        (fused.norm_backward(gradient, states, weight, factor), PLAIN.norm_backward(gradient, states, weight, factor)),
        (fused.swiglu_forward(gate, up), PLAIN.swiglu_forward(gate, up)),
        *zip(fused.swiglu_backward(gate, gate, up), PLAIN.swiglu_backward(gate, gate, up), strict=True),
        (fused.rotate(heads, *turn), PLAIN.rotate(heads, *turn)),
        (fused.rotate_back(heads.transpose(1, 2), *turn), PLAIN.rotate_back(heads.transpose(1, 2), *turn)),
        (in_place[0], in_place[1]),
    ):
        torch.testing.assert_close(one, other, rtol=bound, atol=bound)
