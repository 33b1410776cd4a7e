"""Packed weights: the same products, no gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from laserrec.llm.packed import PackedLinear, can_pack, pack

needs_bfloat16 = pytest.mark.skipif(
    not can_pack(torch.zeros(1, 1, dtype=torch.bfloat16)), reason="this processor or this torch cannot lay out bfloat16 weights"
)


@needs_bfloat16
@pytest.mark.parametrize("rows", [0, 1, 9, 16, 17, 300])
@pytest.mark.parametrize(("inputs", "outputs", "bias"), [(576, 192, False), (64, 48, True), (33, 17, True)])
def test_products_are_equal_to_the_bit(rows: int, inputs: int, outputs: int, bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(inputs, outputs, bias=bias, dtype=torch.bfloat16)
    states = torch.randn(2, rows, inputs, dtype=torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(PackedLinear(linear)(states), linear(states))


@needs_bfloat16
def test_a_gradient_is_refused_and_not_lost() -> None:
    packed = PackedLinear(nn.Linear(8, 4, dtype=torch.bfloat16))
    states = torch.randn(3, 8, dtype=torch.bfloat16, requires_grad=True)
    with pytest.raises(RuntimeError, match="no gradients"):
        packed(states)
    assert packed(states.detach()).shape == (3, 4)


@needs_bfloat16
def test_every_linear_layer_is_replaced_and_nothing_else() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Sequential(nn.Linear(8, 4))).to(torch.bfloat16)
    pack(model)
    assert [type(part) for part in model.modules()] == [nn.Sequential, PackedLinear, nn.LayerNorm, nn.Sequential, PackedLinear]
    assert not [name for name, _ in model.named_parameters() if not name.startswith("1.")]


def test_float32_is_left_as_it_is() -> None:
    model = nn.Sequential(nn.Linear(8, 8))
    pack(model)
    assert type(model[0]) is nn.Linear
