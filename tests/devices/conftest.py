"""A device that is not the CPU, pretended: see `elsewhere`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path[:0] = [str(Path(__file__).parent), *(str(Path(__file__).parents[1] / area) for area in ("recommender", "core", "bench"))]

from elsewhere import ELSEWHERE, Elsewhere  # noqa: E402 - found on the path above

from laserrec import devices  # noqa: E402
from laserrec.nn import attention  # noqa: E402


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[torch.device]:
    """The device, which this machine has for as long as the test lasts, and an empty cache."""
    monkeypatch.setattr(devices, "available", lambda: ["cpu", str(ELSEWHERE)])
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "cache"))
    with Elsewhere():
        yield ELSEWHERE
    attention._later.cache_clear()  # it remembers tensors by device
