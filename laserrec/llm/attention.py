"""Attention of new tokens to a cached context and, causally, to each other, with its gradient by hand.

Rows come in groups of similar length. All groups share the linear layers. Attention runs group by group, so that little padding is
computed, and one block of queries after another, so that a causal triangle is not computed as a square. Keys of the context are
constants: no gradient is ever formed for them.

Dimensions: B rows of a group, Q new tokens, T context tokens, G key/value heads, R query heads per key/value head, C head width, M all
tokens of all groups.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention

from laserrec.llm.buckets import LengthBucket
from laserrec.llm.kernels import Kernels


def attend(
    query: Tensor, key: Tensor, value: Tensor, groups: Sequence[LengthBucket], layer: int, head_width: int, kernels: Kernels
) -> Tensor:
    """Attend.

    Args:
        query: before rotation, [M, G·R·C].
        key: before rotation, [M, G·C].
        value: [M, G·C].
        groups: how the M tokens divide; together they cover them all.
        layer: which layer's context.
        head_width: C.
        kernels: how to rotate.

    Returns:
        The heads' mixtures of values, [M, G·R·C].
    """
    if query.device.type == "cuda" and all(group.context is None for group in groups):
        return torch.cat([attend_alone(query, key, value, group, head_width, kernels) for group in groups])
    on_gpu = gpu_kernels(query.device)
    if (
        on_gpu is not None
        and on_gpu.fits(query, groups, head_width)
        and on_gpu.kernels_available(query.device, head_width, on_gpu.padded(groups))
    ):
        found: Tensor = on_gpu.attend_blocks(query, key, value, groups, layer, head_width)
        return found
    mixed: Tensor = _Attention.apply(query, key, value, groups, layer, head_width, kernels)  # type: ignore[no-untyped-call]
    return mixed


@lru_cache
def gpu_kernels(device: torch.device) -> ModuleType | None:
    """Return the kernels that a kind of device has for cached blocks, None where it has none: CUDA from Ampere on, with Triton."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0) or importlib.util.find_spec("triton") is None:
        return None
    from laserrec.llm import triton_attention

    return triton_attention


def attend_alone(query: Tensor, key: Tensor, value: Tensor, group: LengthBucket, head_width: int, kernels: Kernels) -> Tensor:
    """Attend within the rows of one group without context, by the fused kernels that GPUs have for it: [B·Q, G·R·C]."""
    queries, keys = (kernels.rotate(group.take(states, head_width), *group.angles) for states in (query, key))
    values = group.take(value, head_width).transpose(1, 2)
    mixed = scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=queries.shape[1] != keys.shape[1])
    return mixed.transpose(1, 2).reshape(group.rows * group.length, -1)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        query: Tensor,
        key: Tensor,
        value: Tensor,
        groups: Sequence[LengthBucket],
        layer: int,
        head_width: int,
        kernels: Kernels,
    ) -> Tensor:
        kv_heads = key.shape[1] // head_width
        mixed = torch.empty_like(query)
        kept = []
        for group in groups:
            keys, values = group.keys_values(layer, group.take(key, head_width), group.take(value, head_width), kernels)
            queries = _fold(kernels.rotate(group.take(query, head_width), *group.query_angles), kv_heads)
            weights, out = [], []
            for start, end in group.blocks():
                seen = keys.shape[1] - group.length + end
                scores = _block(queries, start, end) @ keys[:, :seen].transpose(1, 2)
                group.hide(scores, start, end, kv_heads)
                weights.append(scores.softmax(-1))
                out.append((weights[-1] @ values[:, :seen]).view(len(keys), -1, end - start, head_width))
            group.take(mixed, head_width).copy_(_unfold(torch.cat(out[::-1], dim=2), kv_heads))
            kept += [queries, keys, values, *weights]
        ctx.save_for_backward(*kept)
        ctx.groups = groups
        ctx.head_width = head_width
        ctx.kernels = kernels
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        kept = iter(ctx.saved_tensors)
        head_width = ctx.head_width
        outcome: tuple[list[Tensor], ...] = ([], [], [])
        for group in ctx.groups:
            queries, keys, values = (next(kept) for _ in range(3))
            weights = [next(kept) for _ in group.blocks()]
            outer = _fold(group.take(gradient, head_width).transpose(1, 2), len(keys) // group.rows)
            found = _group_backward(group, outer, queries, keys, values, weights)
            for whole, part, angles in zip(outcome, found, (group.query_angles, group.angles, None), strict=True):
                part = part.view(group.rows, -1, group.length, head_width)
                part = ctx.kernels.rotate_back(part, *angles) if angles else part.transpose(1, 2)
                whole.append(part.reshape(group.rows * group.length, -1))
        return *(torch.cat(parts) if len(parts) > 1 else parts[0] for parts in outcome), None, None, None, None


def _group_backward(
    group: LengthBucket, outer: Tensor, queries: Tensor, keys: Tensor, values: Tensor, weights: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of queries [B·G, R, Q, C], and of the new tokens' keys and values [B·G, Q, C]."""
    context = keys.shape[1] - group.length
    of_queries = []
    of_keys = keys.new_empty(0)
    of_values = keys.new_empty(0)
    for (start, end), weight in zip(group.blocks(), weights, strict=True):
        seen = context + end
        out = _block(outer, start, end)
        asked = _block(queries, start, end)
        of_weights = out @ values[:, :seen].transpose(1, 2)
        of_scores: Tensor = torch.ops.aten._softmax_backward_data(of_weights, weight, -1, weight.dtype)
        of_queries.append((of_scores @ keys[:, :seen]).view(len(keys), -1, end - start, keys.shape[2]))
        key_part = of_scores[:, :, context:].transpose(1, 2) @ asked
        value_part = weight[:, :, context:].transpose(1, 2) @ out
        if end == group.length:
            of_keys = key_part
            of_values = value_part
        else:
            of_keys[:, :end] += key_part
            of_values[:, :end] += value_part
    return torch.cat(of_queries[::-1], dim=2), of_keys, of_values


def _fold(states: Tensor, kv_heads: int) -> Tensor:
    """Lay the query heads of one key/value head side by side: [B, G·R, Q, C] to [B·G, R, Q, C]."""
    return states.reshape(len(states) * kv_heads, -1, *states.shape[2:])


def _unfold(states: Tensor, kv_heads: int) -> Tensor:
    """Undo `_fold`, token by token: [B·G, R, Q, C] to [B, Q, G·R, C]."""
    return states.view(len(states) // kv_heads, -1, *states.shape[2:]).transpose(1, 2)


def _block(states: Tensor, start: int, end: int) -> Tensor:
    """Return a block of queries [B·G, R·n, C] of [B·G, R, Q, C]."""
    return states[:, :, start:end].flatten(1, 2)
