"""Multiply a few vectors with many, without gradients.

Dimensions: B vectors, N catalogue, H width.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def products(vectors: Tensor, matrix: Tensor) -> Tensor:
    """Return `vectors @ matrix.T`, float [B, N], of float [B, H] and [N, H], without gradients.

    In float32 on a CPU oneDNN multiplies, by the operator that `torch.compile` uses. The library behind `@` halves its speed on processors
    of other vendors than its own (docs/explanation/performance.md).
    """
    by_onednn = (
        vectors.device.type == "cpu"
        and vectors.dtype == torch.float32
        and vectors.numel()
        and matrix.numel()
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # absent from builds without oneDNN
    )
    if not by_onednn:
        return vectors @ matrix.T
    return torch.ops.mkldnn._linear_pointwise(vectors, matrix, None, "none", [], "")  # type: ignore[no-any-return]
