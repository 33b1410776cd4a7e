"""Items that come after training are embedded with what made the item matrix, not with the weights trained since."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch


@pytest.mark.parametrize("source", ["mformer", "linear", "plain"])
def test_an_item_embedded_later_stands_where_it_stood(source: str) -> None:
    sections: dict[str, Any] = {"mformer": {"source": source}}
    laser = tiny.system(tiny.config(**sections))
    laser.refresh()
    stored = laser.model.item_states.clone()
    with torch.no_grad():
        for parameter in laser.model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    torch.testing.assert_close(laser.embed_items(torch.arange(len(stored))), stored, rtol=1e-4, atol=1e-5)
    laser.refresh()
    assert not torch.allclose(laser.model.item_states, stored, atol=0.05)


def test_the_copy_is_not_trained() -> None:
    laser = tiny.system(tiny.config())
    names = [name for name, parameter in laser.model.named_parameters() if parameter.requires_grad]
    assert names
    assert not [name for name in names if name.startswith("item_")]
