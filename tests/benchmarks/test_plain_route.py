"""The plain route computes what ours does, so that only time is compared."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.speed.plain import block_mask
from benchmarks.speed.synthetic_shop import Setting, World, read


@pytest.mark.parametrize("order", ["text_first", "prefix_first"])
@pytest.mark.parametrize("vary", [0.0, 0.5])
def test_embeddings_and_gradients_are_ours(setting: Setting, order: str, vary: float) -> None:
    world = World(replace(setting, vary=vary))
    histories, prompts = world.histories, world.prompts(world.histories)
    ours, theirs = (world.virtual(len(histories)).requires_grad_() for _ in range(2))
    embedded = read(world.texts(order).reader, histories, ours)
    plain = world.plain(2).read(prompts, theirs, order, apart=order == "text_first")  # type: ignore[arg-type]
    torch.testing.assert_close(embedded, plain, rtol=1e-4, atol=1e-5)
    pull = torch.randn(embedded.shape, generator=torch.Generator().manual_seed(1))
    embedded.backward(pull)
    plain.backward(pull)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)


def test_items_that_see_each_other_are_another_computation(setting: Setting) -> None:
    world = World(setting)
    plain, virtual, prompts = world.plain(4), world.virtual(4), world.prompts(world.histories)
    apart = plain.read(prompts, virtual, "text_first", apart=True)
    assert not torch.allclose(apart, plain.read(prompts, virtual, "text_first"), rtol=1e-2, atol=1e-2)


def test_a_batch_does_not_change_a_row(setting: Setting) -> None:
    world = World(setting)
    virtual, prompts = world.virtual(4), world.prompts(world.histories)
    alone, together = (world.plain(size).read(prompts, virtual, "prefix_first") for size in (1, 4))
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


def test_who_sees_whom() -> None:
    # Items of two tokens and one token, then two virtual tokens.
    expected = [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1],
    ]
    assert block_mask([[[5, 6], [7]]], 5)[0, 0].int().tolist() == expected


def test_lines_have_the_tokens_asked_for(setting: Setting) -> None:
    assert {len(line) for line in World(replace(setting, vary=0.0)).lines} == {12}
    assert {len(line) for line in World(setting).lines} <= set(range(1, 19))
