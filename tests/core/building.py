"""Encodes the texts of tests/nn/test_text_store.py in a process of its own, in small shards: building.py FOLDER [SECONDS-PER-BATCH]."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import tiny

from laserrec.nn import text_blocks, text_cache
from laserrec.nn.text_cache import TextCache

LLM = tiny.backbone()
INSTRUCTION = LLM.tokenize("Buys:\n")
LINES = LLM.tokenize_all([f">> {title} {place}\n" for place, title in enumerate(tiny.TITLES * 4)])
BATCH_TOKENS, SHARD_BYTES = 60, 30_000


def build(folder: Path, pause: float = 0.0) -> TextCache:
    text_blocks.ENCODE_TOKENS, text_cache.SHARD_BYTES = BATCH_TOKENS, SHARD_BYTES
    cache = TextCache(LLM, INSTRUCTION, LINES)
    cache.open(folder, writes=True)
    cache.build(lambda _: time.sleep(pause))
    return cache


if __name__ == "__main__":
    build(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
