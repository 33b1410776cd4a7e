"""What tests/nn/text_store share; encodes their texts in a process of its own, in small shards: building.py FOLDER [SECONDS-PER-BATCH].

With `building.py FOLDER 0 DESCRIPTORS` every text has a shard of its own, no more files than that can be opened at once, and everything is
read back by another cache, into FOLDER/read.npy.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path

import numpy as np
import tiny
import torch
from safetensors import safe_open
from torch import Tensor

from laserrec.text_cache import blocks as cache_module
from laserrec.text_cache import encoder
from laserrec.text_cache.cache import TextCache
from laserrec.text_cache.disk import DiskStore

LLM = tiny.backbone()
INSTRUCTION = LLM.tokenize("Buys:\n")
LINES = LLM.tokenize_all([f">> {title} {place}\n" for place, title in enumerate(tiny.TITLES * 4)])
BATCH_TOKENS, SHARD_BYTES = 60, 30_000


def build(folder: Path, pause: float = 0.0) -> TextCache:
    encoder.ENCODE_TOKENS, cache_module.SHARD_BYTES = BATCH_TOKENS, SHARD_BYTES
    cache = TextCache(LLM, INSTRUCTION, LINES)
    cache.open(DiskStore.under(folder), writes=True)
    cache.build(lambda _: time.sleep(pause))
    return cache


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/shard-*.safetensors"))


def keys(path: Path) -> list[bytes]:
    with safe_open(path, "pt") as file:
        return [row.numpy().tobytes() for row in file.get_tensor("keys")]


def opened(folder: Path, *, writes: bool = False) -> TextCache:
    cache = TextCache(LLM, INSTRUCTION, LINES)
    cache.open(DiskStore.under(folder), writes=writes)
    return cache


def contents(cache: TextCache) -> Tensor:
    """Return every layer's keys and values of all items, one history."""
    every = torch.arange(len(LINES))[None]
    found = cache.gather(every, torch.ones_like(every, dtype=torch.bool))
    return torch.stack([found.layer(layer) for layer in range(2)])


@contextmanager
def descriptors(free: int) -> Iterator[None]:
    """Let this process open that many more files at once."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = {int(name) for name in os.listdir("/dev/fd") if Path("/dev/fd", name).exists()}  # without the one that listed them
    # The limit is one above the highest number that a file may get.
    limit = next(islice((number for number in count() if number not in used), free, None))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def main(folder: Path, pause: float = 0.0, free: int | None = None) -> None:
    global SHARD_BYTES
    if free is None:
        build(folder, pause)
        return
    SHARD_BYTES = 1
    with descriptors(free):
        build(folder)
        cache = TextCache(LLM, INSTRUCTION, LINES)
        cache.open(DiskStore.under(folder), writes=False)
        assert not cache.missing
        np.save(folder / "read.npy", contents(cache).numpy())


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(float, sys.argv[2:3]), *map(int, sys.argv[3:4]))
