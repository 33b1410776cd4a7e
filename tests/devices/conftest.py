"""A device that is not the CPU, pretended: see `elsewhere`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from elsewhere import ELSEWHERE, Elsewhere

from laserrec.llm import buckets
from laserrec.system import devices


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[torch.device]:
    """The device, which this machine has for as long as the test lasts, and an empty cache."""
    monkeypatch.setattr(devices, "available", lambda: ["cpu", str(ELSEWHERE)])
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "cache"))
    with Elsewhere():
        yield ELSEWHERE
    buckets._later.cache_clear()  # it remembers tensors by device
