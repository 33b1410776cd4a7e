"""Inner products of a few vectors with many, where nothing is to be learnt from them.

In float32 on a processor oneDNN multiplies, by the operators that `torch.compile` uses: it has the processor's widest instructions whoever
made it, where the library behind `@` halves its speed on those of other vendors.

Dimensions: B vectors, N catalogue, H width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LAID_OUT_FOR = 4096
"""Rows of a matrix that vectors are laid out for; any number is multiplied right."""
BLOCK = (64, 16)
"""Rows and columns to whose multiples the library fills vectors up at most when it lays them out."""


@torch.no_grad()
def products(vectors: Tensor, matrix: Tensor) -> Tensor:
    """Return `vectors @ matrix.T`, float [B, N], of float [B, H] and [N, H], without gradients."""
    if not _by_onednn(vectors, "_linear_pointwise") or not matrix.numel():
        return vectors @ matrix.T
    return torch.ops.mkldnn._linear_pointwise(vectors, matrix, None, "none", [], "")  # type: ignore[no-any-return]


@torch.no_grad()
def products_with(vectors: Tensor) -> Callable[[Tensor], Tensor]:
    """Return what gives `matrix @ vectors.T`, float [N, B], of one matrix [N, H] after the other, without gradients.

    The library puts one of two factors into a layout of its own. Here those are the vectors, once, and never the matrices. The vectors must
    stay what they are meanwhile.
    """
    vectors, laid_out = vectors.detach(), None
    if _lays_out(vectors):
        laid_out = torch.ops.mkldnn._reorder_linear_weight(vectors.contiguous(), LAID_OUT_FOR)

    @torch.no_grad()
    def multiply(matrix: Tensor) -> Tensor:
        if laid_out is None or matrix.dtype != vectors.dtype or matrix.shape[1:] != vectors.shape[1:] or not matrix.numel():
            return matrix @ vectors.T
        if not matrix.is_contiguous():  # of which the library would make a copy here, and makes none in the other order
            return products(vectors, matrix).T
        return torch.ops.mkldnn._linear_pointwise(matrix, laid_out, None, "none", [], "")  # type: ignore[no-any-return]

    return multiply


def laid_out_bytes(vectors: Tensor, count: int) -> int:
    """Return the bytes that `products_with` holds at most for `count` of some vectors [B, H]."""
    if not _lays_out(vectors):
        return 0
    rows, columns = (-(-size // block) * block for size, block in zip((count, vectors.shape[1]), BLOCK, strict=True))
    return rows * columns * vectors.element_size()


def _lays_out(vectors: Tensor) -> bool:
    return _by_onednn(vectors, "_linear_pointwise", "_reorder_linear_weight")


def _by_onednn(vectors: Tensor, *operators: str) -> bool:
    """Tell whether oneDNN can multiply these vectors, and has operators of these names here."""
    if vectors.device.type != "cpu" or vectors.dtype != torch.float32 or not vectors.numel():
        return False
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in operators)
