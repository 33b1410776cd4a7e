"""A tiny shop and settings to tune."""

from __future__ import annotations

import pytest
import small_shop

from laserrec import Dataset
from laserrec.config import LaserConfig


@pytest.fixture(autouse=True)
def _cached(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def data() -> Dataset:
    """The shop."""
    return small_shop.dataset()


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> LaserConfig:
    """Small settings around a small language model."""
    return small_shop.config(small_shop.write_llm(tmp_path_factory.mktemp("llm")))
