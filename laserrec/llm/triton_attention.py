"""Attention to cached blocks on a GPU: one kernel forward and one backward, in Triton, which torch brings along for CUDA.

The plain way (`attention.py`) copies every block of a batch at every layer, rotates the copies and keeps them for the way back. Here keys
and values are read where they lie, rotated on the way, and forgotten: of the context nothing is copied, padded or kept, but in the last
layer, where one token a row asks (`decoder.py`). Softmax is computed along the way and, going back, again from the logarithms of its sums,
as FlashAttention does (Dao, 2023).

One program takes one row and one key/value head; forward, one part of its queries. Queries of all heads that share a key/value head are
asked together: R query heads of Q new tokens are R · Q queries.

Dimensions: B rows of a group, Q new tokens, T context tokens, G key/value heads, R query heads per key/value head, C head width, M all
tokens of all groups.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from laserrec.llm.buckets import LengthBucket

LEAST, MOST_NEW = 16, 64
"""Side of the smallest product, most new tokens of a row."""
PART = 64
"""Queries that are asked together at most."""
KEYS, KEYS_BACK = 64, 32
"""Context tokens that are looked at together; going back, more would not fit into a GPU's registers."""
HEAD_WIDTHS = (32, 64, 128)
"""Tiles of Triton have a power of two of columns; heads of other widths are left to plain torch."""
DTYPES = (torch.bfloat16, torch.float16)
"""Types that they are made for; in float32 they are right, too, and take a minute to compile."""
VARYING = ("turns_apart", "far_apart", "length", "context", "layer")
"""Numbers for whose particular values no kernel is compiled."""


@runtime_checkable
class Blocks(Protocol):
    """A context whose keys and values lie among others', as `buckets.CachedContext` says; real tokens come first."""

    rows: Tensor
    index: Tensor
    stride: Tensor

    @property
    def ends(self) -> Tensor:
        """Number of real tokens, int64 [B]."""


def fits(query: Tensor, groups: Sequence[LengthBucket], head_width: int) -> bool:
    """Return whether the kernels support this: half precision, heads of 32, 64 or 128 numbers, up to 64 new tokens."""
    sizes = head_width in HEAD_WIDTHS and all(group.length <= MOST_NEW for group in groups)
    return sizes and query.dtype in DTYPES and all(isinstance(group.context, Blocks) for group in groups)


def attend_blocks(query: Tensor, key: Tensor, value: Tensor, groups: Sequence[LengthBucket], layer: int, head_width: int) -> Tensor:
    """Attend; arguments and result as in `attention.attend`."""
    mixed: Tensor = _Attention.apply(query, key, value, groups, layer, head_width)
    return mixed


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        groups: Sequence[LengthBucket],
        layer: int,
        head_width: int,
    ) -> Tensor:
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        heads = key.shape[1] // head_width
        mixed = torch.empty_like(query)
        sums = torch.empty(query.numel() // head_width, dtype=torch.float32, device=query.device)
        with _on(query.device):
            for group in groups:
                shape = _shape(group, query.shape[1] // key.shape[1], heads, head_width)
                parts = (part[group.start : group.end] for part in (query, key, value, mixed))
                grid = (triton.cdiv(shape["REPEATS"] * group.length, shape["QUERIES"]), group.rows, heads)
                _forward[grid](*parts, _sums(sums, group, query, head_width), *_context(group), layer, KEYS=KEYS, **shape)
        ctx.save_for_backward(query, key, value, mixed, sums)
        ctx.groups = groups
        ctx.layer = layer
        ctx.head_width = head_width
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mixed, sums = ctx.saved_tensors
        heads = key.shape[1] // ctx.head_width
        found = tuple(torch.empty_like(part) for part in (query, key, value))
        gradient = gradient.contiguous()
        with _on(query.device):
            for group in ctx.groups:
                shape = _shape(group, query.shape[1] // key.shape[1], heads, ctx.head_width)
                parts = (part[group.start : group.end] for part in (query, key, value, mixed, gradient, *found))
                each = _sums(sums, group, query, ctx.head_width)
                _backward[group.rows, heads](*parts, each, *_context(group), ctx.layer, KEYS=KEYS_BACK, **shape)
        return *found, None, None, None


def padded(groups: Sequence[LengthBucket]) -> int:
    """Return how many new tokens the kernels are compiled for, of the group that has most."""
    return max(_padded(group.length) for group in groups)


@lru_cache
def kernels_available(device: torch.device, head_width: int, new: int) -> bool:
    """Return whether the kernels run on a device, by running them once, and warn where they do not.

    Larger heads and more tokens need more of the device's shared memory.

    Args:
        device: a CUDA device.
        head_width: C.
        new: what `padded` gives.

    Raises:
        OutOfMemoryError: there is not even memory for that now; the next call tries again.
    """
    try:
        try_out(device, head_width, new)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        warnings.warn(
            f"Triton's kernels for heads of {head_width} numbers and {new} new tokens do not work here, so cached texts are attended to by "
            f"plain torch, which is slower: {error} Triton needs a C compiler and the headers of this Python.",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True


def try_out(device: torch.device, head_width: int, new: int) -> None:
    """Run both kernels once; raises whatever a device, its driver or the compiler that Triton calls has against it.

    Whoever asks first may do so where no gradients are taken: they are tried with gradients all the same.
    """
    from laserrec.llm.buckets import CachedContext, LengthBucket

    with torch.inference_mode(False), torch.enable_grad():
        place = torch.zeros(1, 1, dtype=torch.int64, device=device)
        half = head_width // 2
        rows = torch.ones(1, 2, 1, head_width, dtype=torch.float16, device=device)
        far, near = ((torch.ones(1, n, half, device=device), torch.zeros(1, n, half, device=device)) for n in (1, new))
        context = CachedContext(rows, place, place, place, place == 0, padded=False)
        # As many query heads as make a whole part of queries, which takes the most shared memory.
        sizes = (max(1, PART // new) * head_width, head_width, head_width)
        query, key, value = (torch.ones(new, size, dtype=torch.float16, device=device, requires_grad=True) for size in sizes)
        group = LengthBucket(0, 1, new, near, context, far, padded=False)
        (gradient,) = torch.autograd.grad(attend_blocks(query, key, value, [group], 0, head_width).sum(), query)
    float(gradient.sum())  # waits for the device, which reports errors late


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Launch on a device: Triton takes the present one, whatever its tensors' is."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _padded(length: int) -> int:
    padded: int = triton.next_power_of_2(max(LEAST, length))
    return padded


def _shape(group: LengthBucket, repeats: int, heads: int, head_width: int) -> dict[str, Any]:
    queries = triton.next_power_of_2(max(LEAST, min(PART, repeats * group.length)))
    new = _padded(group.length)
    sizes = {"HEADS": heads, "REPEATS": repeats, "HALF": head_width // 2, "QUERIES": queries, "NEW": new}
    return sizes | {"scale": head_width**-0.5, "num_warps": 4, "num_stages": 2}


def _sums(sums: Tensor, group: LengthBucket, query: Tensor, head_width: int) -> Tensor:
    each = query.shape[1] // head_width
    return sums[group.start * each : group.end * each]


def _context(group: LengthBucket) -> tuple[Tensor | int, ...]:
    """Return angles, where the context's rows lie, and how many tokens stand between the angles of two rows."""
    blocks = group.context
    assert isinstance(blocks, Blocks)
    assert group.context_angles is not None
    turns = (group.angles, group.context_angles)
    apart = (0 if len(cosine) == 1 else cosine.shape[1] for cosine, _ in turns)
    new = group.length
    length = blocks.index.shape[1]
    return *group.angles, *group.context_angles, blocks.rows, blocks.index, blocks.stride, blocks.ends, *apart, new, length


@triton.jit
def _turned(states, places, cosine, sine, turns, real, HALF: tl.constexpr):
    """Load the two halves of states at element offsets `places` [n] and turn them, float32 [n, HALF] each."""
    columns = tl.arange(0, HALF)[None, :]
    first = tl.load(states + places[:, None] + columns, mask=real[:, None], other=0.0).to(tl.float32)
    second = tl.load(states + places[:, None] + HALF + columns, mask=real[:, None], other=0.0).to(tl.float32)
    cosine = tl.load(cosine + turns[:, None] + columns, mask=real[:, None], other=0.0).to(tl.float32)
    sine = tl.load(sine + turns[:, None] + columns, mask=real[:, None], other=0.0).to(tl.float32)
    return first * cosine - second * sine, second * cosine + first * sine


@triton.jit
def _store_turned_back(target, places, first, second, cosine, sine, turns, real, HALF: tl.constexpr):
    """Undo the turn of gradients [n, HALF] and store them at element offsets `places` [n]."""
    columns = tl.arange(0, HALF)[None, :]
    cosine = tl.load(cosine + turns[:, None] + columns, mask=real[:, None], other=0.0).to(tl.float32)
    sine = tl.load(sine + turns[:, None] + columns, mask=real[:, None], other=0.0).to(tl.float32)
    kind = target.dtype.element_ty
    tl.store(target + places[:, None] + columns, (first * cosine + second * sine).to(kind), mask=real[:, None])
    tl.store(target + places[:, None] + HALF + columns, (second * cosine - first * sine).to(kind), mask=real[:, None])


@triton.jit
def _asked(query, asked, row, head, length, cosine, sine, turn, scale, HEADS: tl.constexpr, REPEATS: tl.constexpr, HALF: tl.constexpr):
    """Load queries by their numbers [n]: both halves, turned and scaled; which are real, their tokens, and their element offsets."""
    real = asked < REPEATS * length
    token = asked % length
    places = ((row * length + token) * HEADS * REPEATS + head * REPEATS + asked // length) * 2 * HALF
    first, second = _turned(query, places, cosine, sine, (turn + token) * HALF, real, HALF)
    return (first * scale).to(query.dtype.element_ty), (second * scale).to(query.dtype.element_ty), real, token, places


@triton.jit
def _keys(keys, places, cosine, sine, turns, real, query, HALF: tl.constexpr):
    """Load keys at element offsets `places` [n]: both halves, turned, in the queries' type."""
    near, far = _turned(keys, places, cosine, sine, turns, real, HALF)
    return near.to(query.dtype.element_ty), far.to(query.dtype.element_ty)


@triton.jit
def _block(
    rows, index, stride, cosine, sine, apart, row, context, layer, head, start, end, query,
    HEADS: tl.constexpr, HALF: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """Load context tokens from `start` on: their keys in halves, turned, their values, both in the queries' type; and which are real."""
    seen = start + tl.arange(0, KEYS)
    there = seen < end
    places = row * context + seen
    at = tl.load(index + places, mask=there, other=0) + layer * tl.load(stride + places, mask=there, other=0)
    at = (at * 2 * HEADS + head) * 2 * HALF
    near, far = _keys(rows, at, cosine, sine, (row * apart + seen) * HALF, there, query, HALF)
    columns = tl.arange(0, 2 * HALF)[None, :]
    values = tl.load(rows + HEADS * 2 * HALF + at[:, None] + columns, mask=there[:, None], other=0.0)
    return near, far, values.to(query.dtype.element_ty), there


@triton.jit
def _product(left, right):
    return tl.dot(left, right, input_precision="ieee")


@triton.jit
def _scores(first, second, near, far):
    """Return the products of queries, in two halves, with keys, in two halves."""
    return _product(first, tl.trans(near)) + _product(second, tl.trans(far))


@triton.jit
def _mix(scores, values, best, total, mixed):
    """Add keys' scores and values to a softmax under way."""
    higher = tl.maximum(best, tl.max(scores, 1))
    shrink = tl.exp(best - higher)
    weights = tl.exp(scores - higher[:, None])
    mixed = mixed * shrink[:, None] + _product(weights.to(values.dtype), values)
    return higher, total * shrink + tl.sum(weights, 1), mixed


@triton.jit(do_not_specialize=VARYING)
def _forward(
    query, key, value, mixed, sums,
    cosine, sine, far_cosine, far_sine, rows, index, stride, ends, turns_apart, far_apart, length, context, layer, scale,
    HEADS: tl.constexpr, REPEATS: tl.constexpr, HALF: tl.constexpr, QUERIES: tl.constexpr, NEW: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    part, row, head = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    kind = query.dtype.element_ty
    turn = row * turns_apart
    end = tl.load(ends + row).to(tl.int32)
    asked = part * QUERIES + tl.arange(0, QUERIES)
    first, second, real, token, places = _asked(query, asked, row, head, length, cosine, sine, turn, scale, HEADS, REPEATS, HALF)
    columns = tl.arange(0, 2 * HALF)[None, :]
    best = tl.full([QUERIES], float("-inf"), tl.float32)
    total, out = tl.zeros([QUERIES], tl.float32), tl.zeros([QUERIES, 2 * HALF], tl.float32)

    # What a loop assigns must have the same shape before it, so these have separate names.
    new = tl.arange(0, NEW)
    inside = new < length
    kept = ((row * length + new) * HEADS + head) * 2 * HALF
    own_near, own_far = _keys(key, kept, cosine, sine, (turn + new) * HALF, inside, query, HALF)
    own_values = tl.load(value + kept[:, None] + columns, mask=inside[:, None], other=0.0)
    own_scores = _scores(first, second, own_near, own_far)
    own_scores = tl.where(new[None, :] <= token[:, None], own_scores, float("-inf"))
    best, total, out = _mix(own_scores, own_values, best, total, out)

    for start in range(0, end, KEYS):
        near, far, values, there = _block(
            rows, index, stride, far_cosine, far_sine, far_apart, row, context, layer, head, start, end, query, HEADS, HALF, KEYS
        )
        scores = tl.where(there[None, :], _scores(first, second, near, far), float("-inf"))
        best, total, out = _mix(scores, values, best, total, out)

    tl.store(mixed + places[:, None] + columns, (out / total[:, None]).to(kind), mask=real[:, None])
    tl.store(sums + (row * HEADS + head) * REPEATS * length + asked, best + tl.log(total), mask=real)


@triton.jit
def _slopes(first, second, near, far, values, visible, sums, pull, inner):
    """Return softmax's weights and the gradient of the scores, in the queries' type."""
    scores = _scores(first, second, near, far)
    weights = tl.where(visible, tl.exp(scores - sums[:, None]), 0.0)
    slopes = weights * (_product(pull, tl.trans(values)) - inner[:, None])
    return weights.to(first.dtype), slopes.to(first.dtype)


@triton.jit(do_not_specialize=VARYING)
def _backward(
    query, key, value, mixed, gradient, of_query, of_key, of_value, sums,
    cosine, sine, far_cosine, far_sine, rows, index, stride, ends, turns_apart, far_apart, length, context, layer, scale,
    HEADS: tl.constexpr, REPEATS: tl.constexpr, HALF: tl.constexpr, QUERIES: tl.constexpr, NEW: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    row, head = tl.program_id(0), tl.program_id(1)
    kind = query.dtype.element_ty
    turn = row * turns_apart
    end = tl.load(ends + row).to(tl.int32)
    columns = tl.arange(0, 2 * HALF)[None, :]
    new = tl.arange(0, NEW)
    inside = new < length
    kept = ((row * length + new) * HEADS + head) * 2 * HALF
    own_near, own_far = _keys(key, kept, cosine, sine, (turn + new) * HALF, inside, query, HALF)
    own_values = tl.load(value + kept[:, None] + columns, mask=inside[:, None], other=0.0)
    near_slope, far_slope = tl.zeros([NEW, HALF], tl.float32), tl.zeros([NEW, HALF], tl.float32)
    value_slope = tl.zeros([NEW, 2 * HALF], tl.float32)

    for begin in range(0, REPEATS * length, QUERIES):
        asked = begin + tl.arange(0, QUERIES)
        first, second, real, token, places = _asked(query, asked, row, head, length, cosine, sine, turn, scale, HEADS, REPEATS, HALF)
        pull = tl.load(gradient + places[:, None] + columns, mask=real[:, None], other=0.0)
        out = tl.load(mixed + places[:, None] + columns, mask=real[:, None], other=0.0)
        inner = tl.sum(pull.to(tl.float32) * out.to(tl.float32), 1)
        logs = tl.load(sums + (row * HEADS + head) * REPEATS * length + asked, mask=real, other=0.0)

        visible = (new[None, :] <= token[:, None]) & inside[None, :] & real[:, None]
        weights, own_slopes = _slopes(first, second, own_near, own_far, own_values, visible, logs, pull, inner)
        first_slope, second_slope = _product(own_slopes, own_near), _product(own_slopes, own_far)
        near_slope += _product(tl.trans(own_slopes), first)
        far_slope += _product(tl.trans(own_slopes), second)
        value_slope += _product(tl.trans(weights), pull)

        for start in range(0, end, KEYS):
            near, far, values, there = _block(
                rows, index, stride, far_cosine, far_sine, far_apart, row, context, layer, head, start, end, query, HEADS, HALF, KEYS
            )
            _unused, slopes = _slopes(first, second, near, far, values, there[None, :] & real[:, None], logs, pull, inner)
            first_slope += _product(slopes, near)
            second_slope += _product(slopes, far)
        _store_turned_back(of_query, places, first_slope * scale, second_slope * scale, cosine, sine, (turn + token) * HALF, real, HALF)

    _store_turned_back(of_key, kept, near_slope, far_slope, cosine, sine, (turn + new) * HALF, inside, HALF)
    tl.store(of_value + kept[:, None] + columns, value_slope.to(kind), mask=inside[:, None])
