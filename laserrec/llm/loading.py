"""Load the frozen language model that the settings name."""

from __future__ import annotations

import torch

from laserrec.config import LaserConfig
from laserrec.llm.backbone import Backbone
from laserrec.llm.gguf import resolve_llm
from laserrec.system.devices import CPU


def load_backbone(config: LaserConfig, device: torch.device = CPU) -> Backbone:
    """Load the frozen LLM that the settings name onto a device, fetching and converting a named asset on first use.

    Raises:
        AssetError: it cannot be had.
    """
    llm, place = config.llm, resolve_llm(config.llm.model)
    return Backbone.load(place, layers=llm.layers, dtype=llm.dtype, weights=llm.weights, compiled=config.runtime.compiled, device=device)
