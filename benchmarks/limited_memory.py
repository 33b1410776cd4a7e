"""Measure how many encoded texts an epoch re-reads when memory holds a part of them, beside the plan's estimate; prints JSON.

    python benchmarks/limited_memory.py --data data/scientific --gib 4.15

Reads what a training epoch reads, without computing anything: every item once, in order, and every history in an order that is drawn, a
step's together, for two epochs, the first of which fills the memory. The texts must be encoded, as a run leaves them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from laserrec import Dataset, LaserConfig
from laserrec.data.ragged import Ragged
from laserrec.laser.item_texts import ItemTexts
from laserrec.laser.reader import GROUP
from laserrec.laser.system import ITEMS_AT_ONCE
from laserrec.llm.buckets import CachedContext
from laserrec.system.cache import texts_folder
from laserrec.system.devices import CPU
from laserrec.system.provenance import provenance
from laserrec.text_cache.cache import TextCache
from laserrec.text_cache.disk import DiskStore
from laserrec.text_cache.store import ReadBlock
from laserrec.training.context import FitContext
from laserrec.training.laser_stage import reading_again


class Counted(DiskStore):
    """A store on disk that counts the rows that are read from it."""

    brought = 0

    @contextmanager
    def reader(self) -> Iterator[ReadBlock]:
        """Count what is read."""
        with super().reader() as read:

            def counted(place: int, rows: Tensor) -> bool:
                Counted.brought += len(rows)
                return read(place, rows)

            yield counted


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="dataset folder")
    parser.add_argument("--gib", type=float, required=True, help="memory for encoded texts")
    chosen = parser.parse_args()
    data, config = Dataset.load(chosen.data), LaserConfig().override([f"runtime.text_memory={chosen.gib}"])
    context = FitContext(data, config, device=CPU)
    texts = context.texts
    texts.open(Counted.under(texts_folder()), writes=False)
    if texts.missing_bytes:
        raise SystemExit("The texts are not encoded yet. Train a run on this dataset first, with the default settings.")
    found = {
        "benchmark": "limited_memory",
        **provenance(["python", *sys.argv]),
        "fingerprint": data.fingerprint,
        **measure(context),
    }
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


def measure(context: FitContext) -> dict[str, Any]:
    """Go through two epochs; returns the second's figures."""
    config, texts = context.config, context.texts
    histories = context.histories.before_last(config.prompt.max_history)
    rows, cache = config.stage1.batch_size, texts.caches[0]
    items_predicted, history_predicted = reading_again(context, config.stage1)
    every = torch.arange(len(cache))[:, None]
    lengths = cache.count_tokens(every, torch.ones_like(every, dtype=torch.bool)).numpy()
    share = texts.memory / texts.unlimited_memory
    for epoch in range(2):
        items = timed(partial(items_read, texts, every[:, 0]))
        steps = [histories.take(part) for part in step_rows(len(histories), rows, epoch)]
        read = timed(partial(histories_read, cache, steps))
    whole = int(lengths.sum()) * len(cache.decoder)  # rows
    return {
        "threads": torch.get_num_threads(),
        "bytes": texts.bytes,
        "share_in_memory": share,
        "share_read_again": {"items": items[0] / whole, "histories": read[0] / whole},
        "seconds": {"items": items[1], "histories": read[1]},
        "processor_seconds": {"items": items[2], "histories": read[2]},
        "predicted_seconds": {"items": items_predicted, "histories": history_predicted * len(histories)},
    }


def step_rows(count: int, rows: int, epoch: int) -> list[NDArray[np.int64]]:
    """Return the rows of an epoch's steps."""
    order = np.random.default_rng(epoch).permutation(count)
    return [order[start : start + rows] for start in range(0, count, rows)]


def items_read(texts: ItemTexts, items: Tensor) -> None:
    """Read every item as an item matrix does."""
    for part in items.split(ITEMS_AT_ONCE):
        texts.recall(part)


def histories_read(cache: TextCache, steps: Sequence[Ragged]) -> None:
    """Read the histories of steps."""
    for step in steps:
        gathered(cache, step)


def gathered(cache: TextCache, step: Ragged) -> list[CachedContext]:
    """Gather a step's histories as a reader does: in groups of similar length, all of which are held until it is done."""
    items, mask = (torch.from_numpy(part) for part in step.padded())
    order = cache.count_tokens(items, mask).argsort(stable=True)
    return [cache.gather(items[part], mask[part]) for part in order.split(GROUP)]


def timed(work: Callable[[], object]) -> tuple[int, float, float]:
    """Return the rows that some work brings into memory, and its seconds."""
    Counted.brought = 0
    began = time.perf_counter()
    computed = time.process_time()
    work()
    return Counted.brought, time.perf_counter() - began, time.process_time() - computed


if __name__ == "__main__":
    main()
