"""Lay out the weights of frozen linear layers once, for a model that only answers requests: no gradient passes through them.

oneDNN multiplies weights in its own layout and converts a weight at every call. With many rows that is cheap. A request has a few rows and
would spend a quarter of its time on it (docs/explanation/performance.md).

Dimensions: I inputs, O outputs of a linear layer. Knows nothing of language models.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

ROWS = 16
"""Rows that the layout is made for: a request has nine with the default prefix. Any number is multiplied right."""


class PackedLinear(nn.Module):
    """A linear layer without gradients that replaces an `nn.Linear` and keeps only its laid-out weight.

    Attributes:
        shape: (O, I).
        packed: the weight in the processor's layout.
        bias: as it was, [O], or None.
    """

    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        """Lay out a linear layer's weight."""
        super().__init__()
        weight = linear.weight.detach()
        self.shape = weight.shape
        # Opaque to torch, so no buffer: it can be neither cast nor saved.
        self.packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    def forward(self, inputs: Tensor) -> Tensor:
        """Return inputs Wᵀ + b, [..., I] to [..., O].

        Raises:
            RuntimeError: a gradient is asked for.
        """
        if torch.is_grad_enabled() and inputs.requires_grad:
            raise RuntimeError("Packed weights give no gradients; train with a model that was not packed, or read under torch.no_grad().")
        mixed: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, self.packed, self.bias, "none", [], "")
        return mixed

    def extra_repr(self) -> str:
        """Describe the layer when a model is printed."""
        return f"in_features={self.shape[1]}, out_features={self.shape[0]}, bias={self.bias is not None}"


def can_pack(weight: Tensor) -> bool:
    """Return whether a weight can be laid out here.

    Only in bfloat16 are products equal to the bit with and without the layout: in float32 another library multiplies without it.
    """
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    if weight.dtype != torch.bfloat16 or weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return all(hasattr(torch.ops.mkldnn, name) for name in names) and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def pack(model: nn.Module) -> None:
    """Replace every linear layer inside a model that can be packed, in place."""
    found = [(parent, name, child) for parent in model.modules() for name, child in parent.named_children() if type(child) is nn.Linear]
    while found:
        # A weight is freed before the next is laid out: never two copies of a whole model.
        parent, name, child = found.pop()
        if can_pack(child.weight):
            setattr(parent, name, PackedLinear(child))
