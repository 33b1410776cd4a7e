"""What is read again in an epoch where memory holds a part of the encoded texts, beside what a plan predicts; prints JSON.

    python benchmarks/limited_memory.py --data data/scientific --gib 4.15

Reads what a training epoch reads, without computing anything: every item once, in order, and every history in an order that is drawn,
for two epochs, the first of which fills the memory. The texts must be encoded, as a run leaves them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from laserrec import Dataset, LaserConfig
from laserrec.assets.store import texts_folder
from laserrec.data.ragged import Ragged
from laserrec.nn.readers import GROUP
from laserrec.nn.text_cache import TextCache
from laserrec.planning.texts import SCANNED, read_again
from laserrec.provenance import provenance
from laserrec.training.language import dataset_texts, load_backbone
from laserrec.training.texts import ItemTexts


class Counted(TextCache):
    """A cache that counts the tokens whose encodings it brings into memory."""

    brought = 0

    def _load(self, blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        Counted.brought += int(self._lengths.numpy()[blocks].sum())
        return super()._load(blocks)


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="dataset folder")
    parser.add_argument("--gib", type=float, required=True, help="memory for encoded texts")
    chosen = parser.parse_args()
    data, config = Dataset.load(chosen.data), LaserConfig().override([f"llm.cache_memory={chosen.gib}"])
    texts = dataset_texts(data, config, load_backbone(config, torch.device("cpu")), Counted)
    texts.reuse(texts_folder())
    if texts.missing_bytes:
        raise SystemExit("The texts are not encoded yet. Train a run on this dataset first, with the default settings.")
    found = {
        "benchmark": "limited_memory",
        **provenance(["python", *sys.argv]),
        "fingerprint": data.fingerprint,
        **measure(data, texts, config),
    }
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


def measure(data: Dataset, texts: ItemTexts, config: LaserConfig) -> dict[str, Any]:
    """Go through two epochs; returns the second's figures."""
    histories = Ragged.from_rows([row[:-1] for row in data.training_histories() if len(row) > 1]).tails(config.prompt.max_history)
    whole = int(texts.lengths.sum())
    for epoch in range(2):
        items = items_read(texts)
        read = histories_read(texts, histories, np.random.default_rng(epoch).permutation(len(histories)))
    share, lengths = texts.memory / texts.unlimited_memory, texts.lengths.numpy()
    began = time.perf_counter()
    predicted = read_again(histories, lengths, share)
    return {
        "threads": torch.get_num_threads(),
        "bytes": texts.bytes,
        "share_in_memory": share,
        "share_read_again": {"items": items[0] / whole, "histories": read[0] / whole},
        "predicted": predicted._asdict(),
        "prediction_seconds": time.perf_counter() - began,
        "seconds": {"items": items[1], "histories": read[1]},
        "processor_seconds": {"items": items[2], "histories": read[2]},
    }


def items_read(texts: ItemTexts) -> tuple[int, float, float]:
    """Read every item; return tokens brought, seconds, and seconds of the processor."""
    return timed(lambda: [texts.recall(part) for part in torch.arange(len(texts.items)).split(SCANNED)])


def histories_read(texts: ItemTexts, histories: Ragged, order: NDArray[np.int64]) -> tuple[int, float, float]:
    """Read histories in an order; see above."""
    cache: TextCache = texts.reader.cache  # type: ignore[attr-defined]
    groups = [histories.take(order[start : start + GROUP]).padded() for start in range(0, len(order), GROUP)]
    return timed(lambda: [len(cache.gather(torch.from_numpy(items), torch.from_numpy(mask)).index) for items, mask in groups])


def timed(work: Callable[[], object]) -> tuple[int, float, float]:
    """Return the tokens that some work brings into memory, and its seconds."""
    Counted.brought, began, computed = 0, time.perf_counter(), time.process_time()
    work()
    return Counted.brought, time.perf_counter() - began, time.process_time() - computed


if __name__ == "__main__":
    main()
