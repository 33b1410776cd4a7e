"""A tiny shop and settings to tune."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1] / "recommender"), str(Path(__file__).parents[1] / "core")]

import small_shop  # noqa: E402 - found on the path above

from laserrec import Dataset  # noqa: E402
from laserrec.config import LaserConfig  # noqa: E402


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
