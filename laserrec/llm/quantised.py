"""Keep the weights of frozen linear layers in 8 or 4 bits: less memory, the same arithmetic.

Only the storage is small. A product turns its weight back into the inputs' dtype, forward and backward, and keeps nothing, so its gradient
to the inputs is that of a linear layer with the dequantised weight, exactly. All three work on every device.

| storage | a weight is | largest error | bits a weight |
|---|---|---|---|
| int8 | an integer -127..127 times its row's step | half a step: 1/254 of the row's largest | 8 + 16 / I |
| fp8 | an e4m3 number times its row's scale | 1/16 of itself, near 0 2⁻¹⁰ of the scale | 8 + 16 / I |
| nf4 | one of 16 normal quantiles (QLoRA, arXiv 2305.14314, App. E) times its block's largest | 0.152 of the block's largest | 4.25 |

Scales are rounded to bfloat16 before the codes are chosen, so they are exact in every dtype that computes with them.

Dimensions: I inputs, O outputs of a linear layer. Knows nothing of language models.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the field's usual name
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from laserrec.errors import ConfigError
from laserrec.system.devices import CPU

Storage = Literal["int8", "nf4", "fp8"]

BLOCK = 64
"""Consecutive weights that share a scale in nf4, as in QLoRA."""
# Quantiles of the normal distribution, scaled to end at -1 and 1.
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495,
    0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip


class QuantisedLinear(nn.Module):
    """A linear layer with a frozen, quantised weight; gradients flow to its inputs alone.

    Attributes:
        storage: how the weight is kept.
        shape: (O, I).
        codes: int8 [O, I]; e4m3 bits as uint8 [O, I], which no cast of the module touches; or two nf4 codes a byte, uint8 [n / 2].
        scales: bfloat16 [O], or [blocks] in nf4.
        bias: as it was, [O], or None.
    """

    codes: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear, storage: Storage) -> None:
        """Quantise a linear layer's weight.

        Args:
            linear: the layer, of any floating dtype; left as it is.
            storage: how to keep its weight.

        Raises:
            ConfigError: the weight holds numbers that are not finite.
        """
        super().__init__()
        weight = linear.weight.detach()
        codes, scales = _pack(weight.float(), storage)
        if not bool(scales.isfinite().all()):
            raise ConfigError(f"llm.weights = {storage!r} needs finite weights; this model holds NaN or infinite ones. Check its files.")
        self.storage = storage
        self.shape = weight.shape
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    def forward(self, inputs: Tensor) -> Tensor:
        """Return inputs Wᵀ + b, [..., I] to [..., O], in the inputs' dtype."""
        mixed: Tensor = _Product.apply(inputs, self.codes, self.scales, self.bias, self.storage, self.shape)  # type: ignore[no-untyped-call]
        return mixed

    def dequantised(self, dtype: torch.dtype) -> Tensor:
        """Return the weight that the layer multiplies with, [O, I]."""
        matrix, scale = _unpack(self.codes, self.scales, self.storage, self.shape, dtype)
        return matrix if scale is None else matrix * scale[:, None]

    def extra_repr(self) -> str:
        """Describe the layer when a model is printed."""
        return f"in_features={self.shape[1]}, out_features={self.shape[0]}, bias={self.bias is not None}, storage={self.storage}"


def quantise(model: nn.Module, storage: Storage, device: torch.device = CPU) -> None:
    """Quantise every linear layer inside a model, in place; embeddings and norms stay as they are.

    Args:
        model: its weights may lie anywhere.
        storage: how to keep weights.
        device: where they are quantised, one after the other, and then stay.

    Raises:
        ConfigError: the model has no linear layers, or weights that are not finite.
    """
    found = [(parent, name, child) for parent in model.modules() for name, child in parent.named_children() if type(child) is nn.Linear]
    if not found:
        kind = type(model).__name__
        raise ConfigError(f"llm.weights = {storage!r} needs linear layers, and a {kind} has none; use llm.weights = 'full' with it.")
    while found:
        # A full weight is freed before the next is quantised: never two copies of a whole model.
        parent, name, child = found.pop()
        setattr(parent, name, QuantisedLinear(child.to(device), storage))


class _Product(torch.autograd.Function):
    """inputs Wᵀ + b, with the weight dequantised anew in each direction."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - autograd's own object
        inputs: Tensor,
        codes: Tensor,
        scales: Tensor,
        bias: Tensor | None,
        storage: Storage,
        shape: torch.Size,
    ) -> Tensor:
        ctx.save_for_backward(codes, scales)
        ctx.storage = storage
        ctx.shape = shape
        bias = None if bias is None else bias.to(inputs.dtype)
        matrix, scale = _unpack(codes, scales, storage, shape, inputs.dtype)
        if scale is None:
            return F.linear(inputs, matrix, bias)
        # The codes are exact in bfloat16; scaling what comes out costs less than scaling the weight while rows are fewer than inputs.
        mixed = F.linear(inputs, matrix)
        return mixed.mul_(scale) if bias is None else torch.addcmul(bias, mixed, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - autograd's own object
        codes, scales = ctx.saved_tensors
        matrix, scale = _unpack(codes, scales, ctx.storage, ctx.shape, gradient.dtype)
        return (gradient if scale is None else gradient * scale) @ matrix, None, None, None, None, None


def _pack(weight: Tensor, storage: Storage) -> tuple[Tensor, Tensor]:
    """Return codes and scales of a float32 weight [O, I]."""
    if storage == "int8":
        scales = _scales(weight, 127)
        return (weight / _divisor(scales)).round().clamp(-127, 127).to(torch.int8), scales
    if storage == "fp8":
        largest = torch.finfo(torch.float8_e4m3fn).max
        scales = _scales(weight, largest)
        return (weight / _divisor(scales)).clamp(-largest, largest).to(torch.float8_e4m3fn).view(torch.uint8), scales
    if storage == "nf4":
        blocks = F.pad(weight.flatten(), (0, -weight.numel() % BLOCK)).view(-1, BLOCK)
        scales = _scales(blocks, 1)
        values = torch.tensor(NF4, device=weight.device)
        nearest = torch.bucketize(blocks / _divisor(scales), (values[1:] + values[:-1]) / 2).to(torch.uint8).flatten()
        return nearest[::2] << 4 | nearest[1::2], scales
    raise AssertionError(storage)


def _scales(rows: Tensor, largest: float) -> Tensor:
    """Return what maps each row's largest magnitude to `largest`, bfloat16 [rows]."""
    # By a tensor: a GPU multiplies by a number's reciprocal, and codes would depend on where they are made.
    return (rows.abs().amax(dim=1) / torch.full((), largest, device=rows.device)).to(torch.bfloat16)


def _divisor(scales: Tensor) -> Tensor:
    return torch.where(scales == 0, 1, scales.float())[:, None]


def _unpack(codes: Tensor, scales: Tensor, storage: Storage, shape: torch.Size, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Return a matrix [O, I] and the scale [O] of its rows, None where the matrix is scaled already; both of `dtype`."""
    if storage == "int8":
        return codes.to(dtype), scales.to(dtype)
    if storage == "fp8":
        return codes.view(torch.float8_e4m3fn).to(dtype), scales.to(dtype)
    if storage == "nf4":
        values = torch.tensor(NF4, dtype=dtype, device=codes.device)
        # A byte is looked up as the pair it stands for.
        pairs = torch.stack([values.repeat_interleave(16), values.repeat(16)], dim=1)
        blocks = pairs.index_select(0, codes.int()).view(-1, BLOCK).mul_(scales.to(dtype)[:, None])
        return blocks.flatten()[: shape.numel()].view(shape), None
    raise AssertionError(storage)
