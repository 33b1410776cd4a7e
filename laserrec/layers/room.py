"""Refuse sizes that no memory here could hold, before anything is allocated."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from laserrec.errors import ConfigError
from laserrec.system.resources import available_memory

COPIES = 4
"""What training holds of every weight: itself, its gradient and Adam's two moments."""


def require_room(build: Callable[[], nn.Module], settings: str) -> None:
    """Refuse a module whose training could not fit into this machine's memory; the module is built without memory to count its weights.

    Args:
        build: builds the module, on whatever device is torch's default.
        settings: the names of the settings that its size follows from.

    Raises:
        ConfigError: it does not fit; the message says how much it would take and how much there is.
    """
    if torch.get_default_device().type == "meta":
        return  # whoever builds without memory counts for themselves
    try:
        with torch.device("meta"):
            needed = COPIES * sum(weight.nbytes for weight in build().state_dict().values())
    except RuntimeError as error:  # more elements than torch can count
        raise ConfigError(f"The sizes in {settings} are beyond what torch can hold: {error} Choose smaller ones.") from error
    available = available_memory()
    if needed > available:
        raise ConfigError(
            f"The sizes in {settings} take {needed / 2**30:,.1f} GiB in training; {available / 2**30:,.1f} GiB of memory are available. "
            "Choose smaller ones."
        )
