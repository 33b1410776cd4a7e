"""Makes `tiny` importable for the tests of this folder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))


@pytest.fixture
def backbones() -> Callable[[str], object]:
    """Build tiny language models by kind: "llama", "qwen2", "qwen3", "mistral", "gpt2"."""
    import tiny

    return lambda kind: tiny.backbone("llama-grouped" if kind == "llama" else kind)
