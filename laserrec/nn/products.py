"""Inner products of a few vectors with many, where nothing is to be learnt from them.

Dimensions: B vectors, N catalogue, H width.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def products(vectors: Tensor, matrix: Tensor) -> Tensor:
    """Return `vectors @ matrix.T`, float [B, N], of float [B, H] and [N, H], without gradients.

    In float32 on a processor oneDNN multiplies, by the operator that `torch.compile` uses: it has the processor's widest instructions
    whoever made it, where the library behind `@` halves its speed on those of other vendors.
    """
    plain = vectors.device.type != "cpu" or vectors.dtype != torch.float32 or not (vectors.numel() and matrix.numel())
    if plain or not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return vectors @ matrix.T
    return torch.ops.mkldnn._linear_pointwise(vectors, matrix, None, "none", [], "")  # type: ignore[no-any-return]
