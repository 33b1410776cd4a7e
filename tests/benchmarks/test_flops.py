"""Work counted from shapes, by hand and against torch's own counter."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed.flops import Shape, Work, causal_pairs, encode, through

# Width 6, two query heads and one key/value head of width 3, feed-forward of width 10, two layers.
SHAPE = Shape(layers=2, width=6, heads=2, kv_heads=1, head_width=3, inner=10)
KEYS_VALUES = 2 * 6 * 3
MATRICES = 6 * 6 + KEYS_VALUES + 6 * 6 + 3 * 6 * 10
PAIR = 2 * 2 * 3 * 2  # two products, two operations a number, width 3, two heads


def test_weights_of_a_layer() -> None:
    assert (SHAPE.keys_values, SHAPE.matrices) == (36, 288) == (KEYS_VALUES, MATRICES)
    assert SHAPE.cached == 2 * 2 * 3


def test_weights_are_those_of_the_model() -> None:
    for kind in tiny.ROTARY:
        model = tiny.backbone(kind).model
        counted = Shape.of(model.config)
        matrices = [weight.numel() for name, weight in model.layers[0].named_parameters() if weight.ndim == 2]
        assert (counted.layers, counted.matrices) == (2, sum(matrices)), kind


def test_a_causal_prompt() -> None:
    # Four tokens make 1 + 2 + 3 + 4 pairs.
    assert causal_pairs(4) == 10
    linear, attention = 2 * MATRICES * 4, PAIR * 10
    assert through(SHAPE, 4) == Work(2 * (linear + attention), 2 * (linear + 2 * attention))
    assert through(SHAPE, 4).total == 2 * (2 * linear + 3 * attention)


def test_only_the_last_token_of_the_last_layer() -> None:
    linear, attention = 2 * MATRICES * 4, PAIR * 10
    last, last_attention = 2 * (KEYS_VALUES * 4 + (MATRICES - KEYS_VALUES)), PAIR * 4
    assert through(SHAPE, 4, last_only=True) == Work(
        linear + attention + last + last_attention, linear + 2 * attention + last + 2 * last_attention
    )


def test_beside_a_context_whose_keys_and_values_need_no_gradient() -> None:
    linear, near, far = 2 * MATRICES * 3, PAIR * 6, PAIR * 3 * 7
    assert through(SHAPE, 3, context=7) == Work(2 * (linear + near + far), 2 * (linear + 2 * near + far))


def test_encoding_needs_no_more_of_the_last_layer_than_keys_and_values() -> None:
    assert encode(SHAPE, 4) == Work(2 * MATRICES * 4 + PAIR * 10 + 2 * KEYS_VALUES * 4, 0)
    assert encode(SHAPE, 4, context=5).forward - encode(SHAPE, 4).forward == PAIR * 4 * 5


@pytest.mark.parametrize("kind", ["llama-grouped", "qwen3"])
def test_torch_counts_the_same(kind: str) -> None:
    backbone = tiny.backbone(kind, attn_implementation="eager")
    shape, rows, length = Shape.of(backbone.model.config), 3, 7
    inputs = torch.randn(rows, length, backbone.width, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        states = backbone.forward(inputs)
    # Eager attention multiplies all pairs and masks afterwards; rotation angles are a product of their own.
    angles = 2 * length * (shape.head_width // 2)
    work = through(shape, length, pairs=length * length) * rows
    assert counter.get_total_flops() - work.forward in (0, angles)
    with FlopCounterMode(display=False) as counter:
        states.sum().backward()
    assert counter.get_total_flops() == work.backward
