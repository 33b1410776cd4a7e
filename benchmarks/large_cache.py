"""Build a large cache of encoded texts with little memory, and measure it: rates, size against plan, memory; prints JSON.

The language model is a small Llama with random weights and the texts are random tokens, so that what is measured is the cache: finding,
keeping, checking and gathering blocks. How fast a real model encodes is what `python -m benchmarks.speed items` measures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import AutoModel, LlamaConfig, PreTrainedTokenizerFast

from laserrec.llm.backbone import Backbone
from laserrec.system.provenance import provenance
from laserrec.text_cache.cache import TextCache
from laserrec.text_cache.disk import DiskStore
from laserrec.text_cache.encoder import cache_bytes

VOCABULARY = 32_000
T = TypeVar("T")
USERS, HISTORY = 16, 10


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--tokens", type=int, default=24, help="of an item, on average")
    parser.add_argument("--memory-mib", type=int, default=512, help="for blocks in memory")
    parser.add_argument("--numbers", choices=("exact", "int8"), default="exact")
    parser.add_argument("--folder", type=Path, help="where a temporary folder is made")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        found = {"benchmark": "large_cache", **provenance(["python", *sys.argv]), **measure(Path(folder), chosen)}
        json.dump(found, sys.stdout, indent=1)
    sys.stdout.write("\n")


def measure(folder: Path, chosen: argparse.Namespace) -> dict[str, object]:
    """Build, open and gather; returns what was measured."""
    llm = small_llm()
    random = np.random.default_rng(0)
    lengths = random.integers(chosen.tokens // 2, chosen.tokens * 3 // 2 + 1, chosen.items)
    lines = [row.tolist() for row in np.split(random.integers(0, VOCABULARY, lengths.sum()), lengths.cumsum()[:-1])]

    def taken(writes: bool) -> TextCache:
        cache = TextCache(llm, [], lines, numbers=chosen.numbers, memory=chosen.memory_mib * 2**20)
        cache.open(DiskStore.under(folder), writes=writes)
        return cache

    before = memory()
    cache, take_seconds = timed(lambda: taken(True))
    _, build_seconds = timed(cache.build)
    after_build = memory()
    written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    planned = cache_bytes(int(lengths.sum()), cache.decoder, chosen.numbers)
    del cache
    forget(folder)
    cache, open_seconds = timed(lambda: taken(False))
    everything = np.arange(chosen.items)
    hot = random.permutation(chosen.items)[
        : int(0.5 * chosen.items * chosen.memory_mib * 2**20 / cache_bytes(lengths.sum(), cache.decoder))
    ]
    popular = 1 / np.arange(1, chosen.items + 1)
    gathers = {
        "all items alike, from the disk": gather(cache, random.choice(everything, (500, USERS, HISTORY))),
        "all items alike, files in the system's cache": gather(cache, random.choice(everything, (500, USERS, HISTORY))),
        "popularity 1/rank": gather(cache, random.choice(everything, (500, USERS, HISTORY), p=popular / popular.sum())),
        "a set that fits, first pass": gather(cache, fill(hot)),
        "a set that fits, again": gather(cache, random.choice(hot, (500, USERS, HISTORY))),
    }
    return {
        "items": chosen.items,
        "tokens": int(lengths.sum()),
        "numbers": chosen.numbers,
        "threads": torch.get_num_threads(),
        "planned_bytes": planned,
        "written_bytes": written,
        "written_to_planned": written / planned,
        "take_texts_seconds": take_seconds,
        "build_seconds": build_seconds,
        "build_tokens_per_second": int(lengths.sum()) / build_seconds,
        "build_bytes_per_second": written / build_seconds,
        "open_seconds": open_seconds,
        "memory_for_blocks": chosen.memory_mib * 2**20,
        "memory_before": before,
        "memory_after_build": after_build,
        "memory_after_gathering": memory(),
        "gathers": gathers,
    }


def gather(cache: TextCache, histories: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> dict[str, float]:
    """Gather batches of histories [batches, USERS, HISTORY], and read one layer of each."""
    mask = torch.ones(USERS, HISTORY, dtype=torch.bool)
    tokens = 0
    missed = 0
    seconds, layer_seconds = 0.0, 0.0
    for batch in torch.from_numpy(histories):
        missed += absent(cache, batch)
        found, took = timed(lambda batch=batch: cache.gather(batch, mask))
        seconds += took
        layer_seconds += timed(lambda found=found: found.layer(0))[1]
        tokens += int(found.mask.sum())
    return {
        "items_per_second": histories.size / seconds,
        "milliseconds_a_batch": 1000 * seconds / len(histories),
        "milliseconds_a_layer": 1000 * layer_seconds / len(histories),
        "bytes_per_second": cache_bytes(tokens, cache.decoder) / seconds,
        "share_in_memory": 1 - missed / histories.size,
    }


def absent(cache: TextCache, items: Tensor) -> int:
    """Return how many of the items are not in memory."""
    return int((cache._shared._arena.first[cache._of_item[items]] < 0).sum())


def fill(items: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Lay items out as batches, each item once."""
    return items[: len(items) // (USERS * HISTORY) * USERS * HISTORY].reshape(-1, USERS, HISTORY)


def small_llm() -> Backbone:
    """A Llama of 4 layers and 512 bytes of keys and values a token, with random weights."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = AutoModel.from_config(LlamaConfig(vocab_size=VOCABULARY, **sizes), dtype=torch.bfloat16)
    return Backbone(model, PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, "a"))))


def timed(what: Callable[[], T]) -> tuple[T, float]:
    """Return a result and the seconds it took."""
    began = time.perf_counter()
    return what(), time.perf_counter() - began


def forget(folder: Path) -> None:
    """Ask the system to forget the files it holds in memory, so that the disk is read."""
    for path in folder.rglob("shard-*"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def memory() -> dict[str, int]:
    """Return this process's resident bytes: its own, and pages of files, which the system may take back at any time."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return {"own": int(lines["RssAnon"].split()[0]) * 1024, "files": int(lines["RssFile"].split()[0]) * 1024}


if __name__ == "__main__":
    main()
