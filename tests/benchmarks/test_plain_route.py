"""The plain route computes what ours does, so that only time is compared."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.speed.plain import block_mask
from benchmarks.speed.synthetic_shop import Setting, SyntheticShop, read


@pytest.mark.parametrize("order", ["text_first", "prefix_first"])
@pytest.mark.parametrize("vary", [0.0, 0.5])
def test_embeddings_and_gradients_are_ours(setting: Setting, order: str, vary: float) -> None:
    shop = SyntheticShop(replace(setting, vary=vary))
    histories, prompts = shop.histories, shop.prompts(shop.histories)
    ours, theirs = (shop.virtual(len(histories)).requires_grad_() for _ in range(2))
    embedded = read(shop.texts(order).reader, histories, ours)
    plain = shop.plain(2).read(prompts, theirs, order, apart=order == "text_first")  # type: ignore[arg-type]
    torch.testing.assert_close(embedded, plain, rtol=1e-4, atol=1e-5)
    pull = torch.randn(embedded.shape, generator=torch.Generator().manual_seed(1))
    embedded.backward(pull)
    plain.backward(pull)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)


def test_items_that_see_each_other_are_another_computation(setting: Setting) -> None:
    shop = SyntheticShop(setting)
    plain, virtual, prompts = shop.plain(4), shop.virtual(4), shop.prompts(shop.histories)
    apart = plain.read(prompts, virtual, "text_first", apart=True)
    assert not torch.allclose(apart, plain.read(prompts, virtual, "text_first"), rtol=1e-2, atol=1e-2)


def test_a_batch_does_not_change_a_row(setting: Setting) -> None:
    shop = SyntheticShop(setting)
    virtual, prompts = shop.virtual(4), shop.prompts(shop.histories)
    alone, together = (shop.plain(size).read(prompts, virtual, "prefix_first") for size in (1, 4))
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
    assert {len(line) for line in SyntheticShop(replace(setting, vary=0.0)).lines} == {12}
    assert {len(line) for line in SyntheticShop(setting).lines} <= set(range(1, 19))
