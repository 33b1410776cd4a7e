"""A whole Laser on another device than the CPU computes what it computes there, forward and backward, in every arrangement."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor
from torch.testing import assert_close

from laserrec.config import FitConfig
from laserrec.laser.collaborative_view import CollaborativeView
from laserrec.laser.item_texts import ItemTexts
from laserrec.laser.system import LaserSystem, build_laser
from laserrec.training.loop import fit

PREFIX_FIRST = {"order": "prefix_first", "line": ">> {number}. {text}\n"}
KNOWN = torch.arange(len(tiny.ITEMS)) < 10
ROWS = [[0, 1, 2, 3, 4, 5, 6], [7], [8, 9], [3, 3, 10], [11], *([place, 4] for place in range(12))]
SECTIONS: dict[str, dict[str, Mapping[str, Any]]] = {
    "text_first": {},
    "no instruction": {"prompt": {"instruction": ""}},
    "prefix_first": {"prompt": PREFIX_FIRST},
    "mean": {"virtual": {"read_out": "mean"}},
    "mean, prefix_first": {"virtual": {"read_out": "mean"}, "prompt": PREFIX_FIRST},
    "last, random start": {"virtual": {"read_out": "last", "start": "random"}},
    "paper routing": {"mformer": {"routing": "paper"}},
    "linear": {"mformer": {"source": "linear"}},
    "bare score": {
        "score": {"standardise": False, "linear_read_out": False, "fuse_collaborative": False, "seen_penalty": False, "nearest": False}
    },
}
KINDS = {"qwen3": ("text_first", "qwen3"), "gpt2": ("prefix_first", "gpt2")}


class Pair:
    """The same Laser here and on another device."""

    def __init__(self, variant: str, device: torch.device) -> None:
        variant, kind = KINDS.get(variant, (variant, "llama-grouped"))
        settings = tiny.config(**SECTIONS[variant])
        self.here = build(settings, kind, torch.device("cpu"))
        tiny.liven(self.here.model)
        self.here.refresh()
        self.there = build(settings, kind, device)
        self.there.model.load_state_dict(self.here.model.state_dict())

    def __iter__(self) -> Iterator[LaserSystem]:
        return iter((self.here, self.there))


def build(settings: Any, kind: str, device: torch.device) -> LaserSystem:  # noqa: ANN401
    llm = tiny.backbone(kind)
    llm.model.to(device)
    texts = ItemTexts(llm, settings.prompt, tiny.ITEMS, settings.virtual.read_out)
    return build_laser(settings, llm, texts, CollaborativeView(tiny.sasrec(), KNOWN))


def batch(device: torch.device) -> tuple[Tensor, Tensor]:
    items, mask = tiny.batch(ROWS)
    return items.to(device), mask.to(device)


def same(found: Tensor, expected: Tensor) -> None:
    assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("variant", [*SECTIONS, *KINDS])
def test_forward_and_backward(elsewhere: torch.device, variant: str) -> None:
    pair = Pair(variant, elsewhere)
    expected, found = map(gradients, pair)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        same(found[name], gradient)
    same(pair.there.scores(*batch(elsewhere)), pair.here.scores(*batch(pair.here.device)))


def gradients(laser: LaserSystem) -> dict[str, Tensor]:
    """Return what every trained tensor is told by a loss of all scores."""
    torch.manual_seed(5)  # of dropped states
    laser.model.train()
    logits, routing = laser.logits(*batch(laser.device))
    assert logits.device == laser.device
    loss = logits.logsumexp(1).sum() + (0 if routing is None else routing.balance)
    loss.backward()
    return {name: p.grad for name, p in laser.model.named_parameters() if p.grad is not None}


def test_refresh_requests_and_new_items(elsewhere: torch.device) -> None:
    pair = Pair("text_first", elsewhere)
    ids = [str(place) for place in range(len(tiny.ITEMS))]
    for laser in pair:
        laser.refresh()
    pair.here, pair.there = (
        laser.serving(ids).with_items({"stapler": {"title": "Stapler"}, "lamp": {"title": "Oak lamp"}}).without_items(["3"])
        for laser in pair
    )
    for name, tensor in pair.here.catalogue.tables().items():
        same(pair.there.catalogue.tables()[name].float(), tensor.float())
    here, there = (laser.scores(*batch(laser.device)) for laser in pair)
    assert here.shape == (len(ROWS), len(tiny.ITEMS) + 2)
    same(there, here)
    here_experts, there_experts = (laser.experts(*batch(laser.device)) for laser in pair)
    assert here_experts is not None
    assert there_experts is not None
    assert there_experts.tolist() == here_experts.tolist()
    for found, expected in zip(*(laser.evidence(*batch(laser.device)) for laser in reversed(list(pair))), strict=True):
        same(found, expected)


class Stop(Exception):  # noqa: N818 - not an error
    """Somebody pulled the plug."""


class Plug:
    def begin(self, *_: object) -> None: ...

    def on_step(self, step: int, scalars: Mapping[str, float]) -> None:
        if step == 2:
            raise Stop

    def on_epoch(self, record: Mapping[str, Any]) -> None: ...

    def end(self) -> None: ...


def trained(laser: LaserSystem, folder: Path, *, stop: bool) -> dict[str, Tensor]:
    """Train, or go on training, to the end or until somebody pulls the plug."""
    config = FitConfig(epochs=1, batch_size=4, learning_rate=0.01, patience=5, checkpoint_seconds=0)
    with pytest.raises(Stop) if stop else nullcontext():
        fit(tiny.task(laser), config, name="stage1", seed=0, folder=folder, identity={}, resume=True, observers=[Plug()] if stop else [])
    return {name: tensor.cpu() for name, tensor in laser.model.state_dict().items()}


def test_a_fit_is_resumed_there_bit_for_bit_and_here_nearly_so(elsewhere: torch.device, tmp_path: Path) -> None:
    expected = trained(Pair("text_first", elsewhere).there, tmp_path / "whole", stop=False)
    trained(Pair("text_first", elsewhere).there, tmp_path / "there", stop=True)
    shutil.copytree(tmp_path / "there", tmp_path / "here")
    found = trained(Pair("text_first", elsewhere).there, tmp_path / "there", stop=False)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    for name, tensor in trained(Pair("text_first", elsewhere).here, tmp_path / "here", stop=False).items():
        if not name.endswith("items"):  # neighbours that are equally near
            assert_close(tensor, expected[name], rtol=0.02, atol=0.02)
