"""Texts encoded once for the tests of a module, in small shards."""

from __future__ import annotations

import shutil
from pathlib import Path

import building
import pytest

from laserrec.text_cache import blocks, encoder


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "ENCODE_TOKENS", building.BATCH_TOKENS)
    monkeypatch.setattr(blocks, "SHARD_BYTES", building.SHARD_BYTES)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "ENCODE_TOKENS", building.BATCH_TOKENS)
        patch.setattr(blocks, "SHARD_BYTES", building.SHARD_BYTES)
        building.build(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of the built folder, to be harmed."""
    return Path(shutil.copytree(whole, tmp_path / "texts"))
