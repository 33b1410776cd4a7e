"""Products by oneDNN against torch's own."""

from __future__ import annotations

import pytest
import torch

from laserrec.layers.products import products


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 7, 5), (64, 33, 300), (0, 4, 3), (2, 4, 0), (2, 0, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_as_torch_multiplies(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    rows, width, catalogue = shape
    torch.manual_seed(0)
    # Small whole numbers: every sum is exact, whatever its order.
    vectors, matrix = (torch.randint(-3, 4, (count, width)).to(dtype).requires_grad_() for count in (rows, catalogue))
    found = products(vectors, matrix)
    assert found.equal((vectors @ matrix.T).detach())
    assert not found.requires_grad


def test_of_tensors_that_are_not_laid_out_in_order() -> None:
    torch.manual_seed(0)
    vectors, matrix = torch.randint(-3, 4, (8, 6)).float().T, torch.randint(-3, 4, (8, 50)).float().T[::2]
    assert products(vectors, matrix).equal(vectors @ matrix.T)
