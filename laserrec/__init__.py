"""Laser: sequential recommendation with a frozen language model (arXiv 2409.01605).

The names below load on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from laserrec.config import LaserConfig
    from laserrec.data.dataset import Dataset
    from laserrec.data.options import ReadOptions
    from laserrec.data.prepare import PrepareOptions, prepare
    from laserrec.data.reading.memory import Tables
    from laserrec.errors import LaserrecError
    from laserrec.recommender import Laser

__version__ = "0.2.0"
__all__ = ["Dataset", "Laser", "LaserConfig", "LaserrecError", "PrepareOptions", "ReadOptions", "Tables", "__version__", "prepare"]

_HOMES = {
    "Dataset": "laserrec.data.dataset",
    "Laser": "laserrec.recommender",
    "LaserConfig": "laserrec.config",
    "LaserrecError": "laserrec.errors",
    "PrepareOptions": "laserrec.data.prepare",
    "ReadOptions": "laserrec.data.options",
    "Tables": "laserrec.data.reading.memory",
    "prepare": "laserrec.data.prepare",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'laserrec' has no attribute {name!r}; it has {', '.join(__all__)}")
    value: object = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
