"""A tiny language model on disk, and settings that measure in milliseconds."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from benchmarks.speed.synthetic_shop import Setting


@pytest.fixture(scope="session")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a Llama of two layers that reads bytes, its weights lively enough for a slip to show."""
    folder = tmp_path_factory.mktemp("llm")
    tiny.backbone("llama-grouped").model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def setting(llm: Path) -> Setting:
    """Five items of unequal length, histories of three."""
    return Setting(
        llm=str(llm), dtype="float32", catalogue=5, item_tokens=12, vary=0.5, history=3, prefix=2, users=4, prompts=3, batch=2, repeats=2,
        threads=1, side=32,
    )  # fmt: skip
