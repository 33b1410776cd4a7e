"""Load the frozen language model that the settings name."""

from __future__ import annotations

import torch

from laserrec.config import LaserConfig
from laserrec.llm.backbone import Backbone
from laserrec.llm.gguf import resolve_llm, resolve_local
from laserrec.system.devices import CPU


def located(config: LaserConfig) -> LaserConfig:
    """Return the settings with a language model's folder named absolutely, so that a run can be used from any working folder."""
    folder = resolve_local(config.llm.model)
    return config if folder is None else config.model_copy(update={"llm": config.llm.model_copy(update={"model": str(folder.absolute())})})


def load_backbone(config: LaserConfig, device: torch.device = CPU) -> Backbone:
    """Load the frozen LLM that the settings name onto a device, fetching and converting a named asset on first use.

    Raises:
        AssetError: it cannot be had.
    """
    llm = config.llm
    place = resolve_llm(config.llm.model)
    return Backbone.load(place, layers=llm.layers, dtype=llm.dtype, weights=llm.weights, compiled=config.runtime.compiled, device=device)
