"""The elementwise parts of a frozen decoder layer, each with its gradient by hand.

Each is one pass forward and one backward, instead of a chain of small operations whose intermediate results autograd would keep.
Arithmetic is in float32 (float64 for float64 inputs), results come in the inputs' dtype. The kernels are plain torch by default;
`Kernels(fused=True)` sends them through `torch.compile`, which makes each one loop over memory, needs a C++ compiler on a CPU, and gives
the same up to rounding. On CUDA the norm is torch's own, either way.

Weights are frozen: gradients go to the activations alone. Legend: B batch, Q tokens, N heads, C head width, H width.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import rms_norm, silu

from laserrec.system.devices import CPU

RotaryAngles = tuple[Tensor, Tensor]
"""Cosine and sine of every token's angles, [B or 1, Q, C / 2] each."""


def can_compile(device: torch.device = CPU) -> bool:
    """Return whether `torch.compile` finds what it needs: a C++ compiler for a CPU, Triton for a CUDA device."""
    if device.type == "cuda":
        return importlib.util.find_spec("triton") is not None
    return device.type == "cpu" and shutil.which(os.environ.get("CXX", "g++")) is not None


class Kernels:
    """The kernels, plain or compiled; one object for a decoder."""

    def __init__(self, *, fused: bool = False) -> None:
        """Choose plain torch or, with `fused`, `torch.compile`."""
        self.fused = fused

        def fuse(function: Callable[..., Any]) -> Callable[..., Any]:
            return torch.compile(function, dynamic=True) if fused else function

        self.norm_forward, self.norm_backward = fuse(_norm_forward), fuse(_norm_backward)
        self.swiglu_forward, self.swiglu_backward = fuse(_swiglu_forward), fuse(_swiglu_backward)
        self.rotate = fuse(_rotate)
        self.rotate_back = fuse(_rotate_back)
        self.rotate_in_place = fuse(_rotate_in_place)

    def norm(self, states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """Root-mean-square norm over the last dimension, times a frozen weight."""
        if states.device.type == "cuda":  # torch's own is one kernel each way there
            return rms_norm(states, weight.shape, weight, epsilon)
        if not torch.is_grad_enabled():  # a request is small enough to feel autograd's bookkeeping
            return self.norm_forward(states, weight, epsilon)[0]  # type: ignore[no-any-return]
        normed: Tensor = _Norm.apply(states, weight, epsilon, self)  # type: ignore[no-untyped-call]
        return normed

    def swiglu(self, gate: Tensor, up: Tensor) -> Tensor:
        """silu(gate) · up."""
        if not torch.is_grad_enabled():
            return self.swiglu_forward(gate, up)  # type: ignore[no-any-return]
        product: Tensor = _Swiglu.apply(gate, up, self)  # type: ignore[no-untyped-call]
        return product


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, epsilon: float, kernels: Kernels) -> Tensor:  # noqa: ANN401
        normed, factor = kernels.norm_forward(states, weight, epsilon)
        ctx.save_for_backward(states, weight, factor)
        ctx.kernels = kernels
        return normed  # type: ignore[no-any-return]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        return ctx.kernels.norm_backward(gradient, *ctx.saved_tensors), None, None, None


class _Swiglu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, kernels: Kernels) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(gate, up)
        ctx.kernels = kernels
        return kernels.swiglu_forward(gate, up)  # type: ignore[no-any-return]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # noqa: ANN401
        return *ctx.kernels.swiglu_backward(gradient, *ctx.saved_tensors), None


def _wide(states: Tensor) -> Tensor:
    return states.double() if states.dtype == torch.float64 else states.float()


def _norm_forward(states: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    wide = _wide(states)
    factor = torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    return weight * (wide * factor).to(states.dtype), factor


def _norm_backward(gradient: Tensor, states: Tensor, weight: Tensor, factor: Tensor) -> Tensor:
    unit = _wide(states) * factor
    inner = _wide(gradient) * _wide(weight)
    return ((inner - unit * (inner * unit).mean(-1, keepdim=True)) * factor).to(states.dtype)


def _swiglu_forward(gate: Tensor, up: Tensor) -> Tensor:
    return silu(gate) * up


def _swiglu_backward(gradient: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    inner: Tensor = torch.ops.aten.silu_backward(gradient * up, gate)
    return inner, gradient * silu(gate)


def _rotate(states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotate states [B, Q, N, C] by their angles and lay them out head by head: [B, N, Q, C], contiguous."""
    first, second = states.transpose(1, 2).chunk(2, dim=-1)
    cosine, sine = cosine.unsqueeze(1), sine.unsqueeze(1)
    turned = torch.addcmul(first * cosine, second, sine, value=-1), torch.addcmul(second * cosine, first, sine)
    return torch.cat(turned, dim=-1).to(states.dtype)


def _rotate_back(gradient: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Undo `_rotate` for a gradient [B, N, Q, C]: [B, Q, N, C], contiguous."""
    first, second = gradient.transpose(1, 2).chunk(2, dim=-1)
    cosine, sine = cosine.unsqueeze(2), sine.unsqueeze(2)
    turned = torch.addcmul(first * cosine, second, sine), torch.addcmul(second * cosine, first, sine, value=-1)
    return torch.cat(turned, dim=-1).to(gradient.dtype)


def _rotate_in_place(states: Tensor, cosine: Tensor, sine: Tensor) -> None:
    """Rotate states [B, N, T, C] by their angles, in place."""
    first, second = states.chunk(2, dim=-1)
    cosine, sine = cosine.unsqueeze(1), sine.unsqueeze(1)
    turned = torch.addcmul(first * cosine, second, sine, value=-1)
    second.mul_(cosine).addcmul_(first, sine)
    first.copy_(turned)
