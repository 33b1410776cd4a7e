"""Attention against torch's own module, and the masks."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import nn

from laserrec.layers.blocks import Attention, Block, initialise


def test_attention_equals_torch() -> None:
    torch.manual_seed(0)
    ours, reference = Attention(12, 3, kv_width=7), nn.MultiheadAttention(12, 3, kdim=7, vdim=7, batch_first=True)
    with torch.no_grad():
        reference.q_proj_weight.copy_(ours.query.weight)
        reference.k_proj_weight.copy_(ours.key.weight)
        reference.v_proj_weight.copy_(ours.value.weight)
        reference.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        reference.out_proj.load_state_dict(ours.output.state_dict())
    queries, memory = torch.randn(2, 5, 12), torch.randn(2, 4, 7)
    mask = torch.tensor([[True, True, False, False], [True] * 4])
    expected, _ = reference(queries, memory, memory, key_padding_mask=~mask)
    torch.testing.assert_close(ours(queries, memory, mask), expected)
    torch.testing.assert_close(ours(queries, memory, mask[:, None].expand(2, 5, 4)), expected)


def test_causal_equals_a_triangular_mask() -> None:
    torch.manual_seed(0)
    attention, states = Attention(8, 2), torch.randn(2, 4, 8)
    triangle = torch.ones(4, 4, dtype=torch.bool).tril().expand(2, 4, 4)
    torch.testing.assert_close(attention(states, states, causal=True), attention(states, states, triangle))


def test_a_query_that_may_look_nowhere_gets_zeros_and_finite_gradients() -> None:
    attention = Attention(8, 2)
    nn.init.zeros_(attention.output.bias)
    states = torch.randn(1, 3, 8, requires_grad=True)
    mixed = attention(states, states, torch.zeros(1, 3, dtype=torch.bool))
    mixed.sum().backward()
    assert not mixed.any()
    assert states.grad is not None
    assert states.grad.isfinite().all()


@pytest.mark.parametrize("norm", ["before", "after"])
def test_block_masks_and_normalises(norm: Literal["before", "after"]) -> None:
    torch.manual_seed(0)
    block = Block(8, 2, norm=norm).eval()
    states, mask = torch.randn(1, 4, 8), torch.tensor([[True, True, False, False]])
    changed = torch.cat([states[:, :2], torch.randn(1, 2, 8)], dim=1)
    torch.testing.assert_close(block(states, mask)[:, :2], block(changed, mask)[:, :2])
    if norm == "after":
        torch.testing.assert_close(block(states, mask).mean(-1), torch.zeros(1, 4), atol=1e-5, rtol=0)


def test_dropout_only_in_training() -> None:
    block, states = Block(8, 2, dropout=0.5), torch.randn(1, 3, 8)
    assert not torch.equal(block(states), block(states))
    block.eval()
    assert torch.equal(block(states), block(states))


def test_initialise_table() -> None:
    part = nn.Sequential(nn.Linear(50, 60), nn.LayerNorm(60), nn.Embedding(70, 60))
    initialise(part, 0.1)
    for weight in (part[0].weight, part[2].weight):
        assert abs(weight.std().item() - 0.1) < 0.01  # type: ignore[union-attr, operator]
    assert not part[0].bias.any()  # type: ignore[union-attr, operator]
