"""Items may be read after an instruction of their own (the paper's ablation of the template)."""

from __future__ import annotations

from typing import Literal

import pytest
import tiny
import torch

from laserrec.config import PromptConfig
from laserrec.laser.item_texts import ItemTexts


@pytest.mark.parametrize("order", ["text_first", "prefix_first"])
def test_items_read_their_own_instruction(order: Literal["text_first", "prefix_first"]) -> None:
    backbone = tiny.backbone()
    prompt = PromptConfig(order=order, instruction="blue ink\n", item_instruction="red paper\n")
    plain = PromptConfig(order=order, instruction="red paper\n")
    items, mask = torch.tensor([[1]]), torch.ones(1, 1, dtype=torch.bool)
    virtual = torch.randn(1, 3, backbone.width)
    both, alone = ItemTexts(backbone, prompt, tiny.ITEMS), ItemTexts(backbone, plain, tiny.ITEMS)
    torch.testing.assert_close(both.item_reader.read(items, mask, virtual), alone.reader.read(items, mask, virtual))
    assert not torch.allclose(both.reader.read(items, mask, virtual), both.item_reader.read(items, mask, virtual), atol=1e-3)
    assert alone.item_reader is alone.reader
