"""A step of training through Laser's readers and through transformers alone: the loss and every trained tensor's gradient."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import tiny
import torch
from torch import Tensor

from benchmarks.speed.plain import Order, PlainRoute
from laserrec.laser.item_texts import ItemTexts
from laserrec.laser.system import LaserSystem
from laserrec.llm.kernels import can_compile

ORDERS: tuple[Order, ...] = ("text_first", "prefix_first")


@dataclass(frozen=True)
class Plainly:
    """Reads whole prompts by transformers; items apart where Laser reads them apart."""

    route: PlainRoute
    texts: ItemTexts
    order: Order

    def read(self, items: Tensor, mask: Tensor, virtual: Tensor) -> Tensor:
        prompts = [
            [self.texts.line(item, number) for number, item in enumerate(row[real].tolist(), 1)]
            for row, real in zip(items, mask, strict=True)
        ]
        return self.route.read(prompts, virtual, self.order, apart=self.order == "text_first")


def settings(order: Order) -> tiny.LaserConfig:
    line = ">> {text}\n" if order == "text_first" else ">> {number}. {text}\n"
    return tiny.config(prompt={"instruction": "", "order": order, "line": line})


def system(order: Order) -> LaserSystem:
    laser = tiny.system(settings(order))
    tiny.liven(laser.model)
    return laser


def plain_system(order: Order, folder: Path) -> LaserSystem:
    """The same system, with transformers in the place of its reader."""
    llm = tiny.backbone()
    llm.model.save_pretrained(folder)
    route = PlainRoute(str(folder), dtype="float32", layers=None, batch_size=3)
    laser = system(order)
    texts = ItemTexts(llm, settings(order).prompt, tiny.ITEMS)
    plainly = copy(texts)
    plainly.reader = plainly.item_reader = Plainly(route, texts, order)
    laser.catalogue = replace(laser.catalogue, texts=plainly)
    return laser


def step(laser: LaserSystem) -> dict[str, Tensor]:
    """Refresh the item matrix and take one step's loss and gradients, by name."""
    task = tiny.task(laser)
    task.start_epoch(1)
    laser.model.eval()  # without dropout, whose noise a step has of its own
    loss = task.step(torch.arange(len(task)), 1).loss
    loss.backward()
    trained = {name: weight.grad for name, weight in laser.model.named_parameters() if weight.requires_grad}
    assert all(gradient is not None for gradient in trained.values())
    return {"loss": loss.detach(), "item matrix": laser.model.item_states} | {
        name: grad for name, grad in trained.items() if grad is not None
    }


def off(actual: Tensor, expected: Tensor) -> float:
    """Size of the difference, relative to what is expected."""
    return float((actual - expected).norm() / expected.norm())


@pytest.mark.parametrize("order", ORDERS)
def test_loss_and_every_gradient_are_those_through_plain_transformers(order: Order, tmp_path: Path) -> None:
    found, expected = step(system(order)), step(plain_system(order, tmp_path))
    assert found.keys() == expected.keys()
    # Prefix, experts, M-Former, read-out and score are all trained.
    assert len(found) > 20
    # What is added to every key alike changes no softmax: these gradients are zero but for rounding.
    nothing = [name for name in found if name.endswith("attention.key.bias")]
    assert all(
        gradients[name].norm() < 1e-4 * expected[name.replace("bias", "weight")].norm()
        for name in nothing
        for gradients in (found, expected)
    )
    names = sorted(found.keys() - nothing)
    assert off(*(torch.cat([gradients[name].flatten() for name in names]) for gradients in (found, expected))) < 1e-5
    # What reaches queries and keys of the M-Former is a small difference of larger numbers, whose rounding depends on the processor.
    small = ("cross_attention.query", "cross_attention.key", "cross_norm")
    bounds = {name: 1e-4 if any(part in name for part in small) else 1e-5 for name in names}
    assert {name: size for name in names if (size := off(found[name], expected[name])) > bounds[name]} == {}


HISTORIES = [[0, 1, 3], [2], [5, 4, 1, 0], [3, 2]]


@cache
def read(order: Order, dtype: torch.dtype, compiled: bool = False) -> tuple[Tensor, Tensor]:
    """Embeddings of some histories and a gradient of them with respect to the virtual tokens."""
    llm = tiny.backbone()
    llm.model.to(dtype)
    llm.compiled = compiled
    virtual = (torch.randn(len(HISTORIES), 4, tiny.WIDTH, generator=torch.Generator().manual_seed(4)) * 0.3).requires_grad_()
    states = ItemTexts(llm, settings(order).prompt, tiny.ITEMS).reader.read(*tiny.batch(HISTORIES), virtual)
    pull = torch.randn(states.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad(states, virtual, pull)
    return states.detach(), gradient


@pytest.mark.parametrize("order", ORDERS)
def test_bfloat16_is_off_by_what_is_documented(order: Order) -> None:
    # docs/explanation/performance.md, "What bfloat16 costs".
    (rough, rough_gradient), (exact, exact_gradient) = read(order, torch.bfloat16), read(order, torch.float32)
    assert 1e-3 < off(rough, exact) < 0.05
    assert 1e-3 < off(rough_gradient, exact_gradient) < 0.1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch about itself, while it imports its compiler
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # its compiler looks at all that a tensor has
@pytest.mark.skipif(not can_compile(), reason="runtime.compiled needs a C++ compiler on a CPU")
@pytest.mark.parametrize("order", ORDERS)
def test_compiled_from_end_to_end(order: Order) -> None:
    for found, expected in zip(read(order, torch.float32, compiled=True), read(order, torch.float32), strict=True):
        assert off(found, expected) < 1e-5
