"""The same Laser on the CPU and on another device, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor

from laserrec.config import FitConfig
from laserrec.laser.collaborative_view import CollaborativeView
from laserrec.laser.item_texts import ItemTexts
from laserrec.laser.system import LaserSystem, build_laser
from laserrec.system.progress import Observer
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
        "score": {
            "standardise": False,
            "linear_read_out": False,
            "fuse_collaborative": False,
            "seen_penalty": False,
            "nearest": False,
            "lexical": False,
        }
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


def gradients(laser: LaserSystem) -> dict[str, Tensor]:
    """Return every trained tensor's gradient of a loss of all scores."""
    torch.manual_seed(5)  # of dropped states
    laser.model.train()
    logits, routing = laser.logits(*batch(laser.device))
    assert logits.device == laser.device
    loss = logits.logsumexp(1).sum() + (0 if routing is None else routing.balance)
    loss.backward()
    return {name: p.grad for name, p in laser.model.named_parameters() if p.grad is not None}


class Stop(Exception):  # noqa: N818 - not an error
    """Somebody pulled the plug."""


class Plug(Observer):
    def on_step(self, step: int, scalars: Mapping[str, float]) -> None:
        if step == 2:
            raise Stop


def trained(laser: LaserSystem, folder: Path, *, stop: bool) -> dict[str, Tensor]:
    """Train, or go on training, to the end or until somebody pulls the plug."""
    config = FitConfig(epochs=1, batch_size=4, learning_rate=0.01, patience=5)
    with pytest.raises(Stop) if stop else nullcontext():
        how = {"folder": folder, "identity": {}, "resume": True, "observers": [Plug()] if stop else [], "checkpoint_seconds": 0}
        fit(tiny.task(laser), config, name="stage1", seed=0, **how)
    return {name: tensor.cpu() for name, tensor in laser.model.state_dict().items()}
