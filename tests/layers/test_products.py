"""Products by oneDNN against torch's own."""

from __future__ import annotations

import pytest
import torch

from laserrec.layers import products as products_module
from laserrec.layers.products import laid_out_bytes, products, products_with


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 7, 5), (64, 33, 300), (0, 4, 3), (2, 4, 0), (2, 0, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_as_torch_multiplies(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    rows, width, catalogue = shape
    torch.manual_seed(0)
    # Small whole numbers: every sum is exact, whatever its order.
    vectors, matrix = (torch.randint(-3, 4, (count, width)).to(dtype).requires_grad_() for count in (rows, catalogue))
    for found in (products(vectors, matrix), products_with(vectors)(matrix).T):
        assert found.equal((vectors @ matrix.T).detach())
        assert not found.requires_grad


def test_of_tensors_that_are_not_laid_out_in_order() -> None:
    torch.manual_seed(0)
    vectors, matrix = torch.randint(-3, 4, (8, 6)).float().T, torch.randint(-3, 4, (8, 50)).float().T[::2]
    assert products(vectors, matrix).equal(vectors @ matrix.T)
    assert products_with(vectors)(matrix).equal(matrix @ vectors.T)


def test_one_matrix_after_the_other() -> None:
    vectors = torch.ones(2, 3)
    multiply = products_with(vectors)
    assert [multiply(torch.full((rows, 3), 2.0)).tolist() for rows in (1, 0, 5)] == [[[6.0, 6.0]] * rows for rows in (1, 0, 5)]


@pytest.mark.skipif(not laid_out_bytes(torch.ones(1, 1), 1), reason="this build of torch has no operators of oneDNN's")
def test_vectors_are_laid_out_and_matrices_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, wide = torch.randint(-3, 4, (5, 6)).float(), torch.randint(-3, 4, (50, 12)).float()
    multiply = products_with(vectors)
    monkeypatch.setattr(products_module, "products", lambda *_: torch.zeros(0, 0))
    assert len(multiply(wide[:, :6].contiguous())) == 50
    for strided in (wide[:, :6], wide[:, ::2]):
        assert not len(multiply(strided))
    for other in (wide, wide[:, :6].contiguous().double()):
        with pytest.raises(RuntimeError, match=r"cannot be multiplied|dtype"):
            multiply(other)
