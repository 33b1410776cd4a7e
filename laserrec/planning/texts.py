"""What encoded texts take: encoding them, reading them, and reading again those that memory does not hold.

Dimensions: N catalogue.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from laserrec.assets.store import texts_folder
from laserrec.config import LaserConfig
from laserrec.data.ragged import Ragged
from laserrec.nn.arena import Arena
from laserrec.nn.readers import GROUP
from laserrec.nn.text_cache import TextCache
from laserrec.planning.probe import MemoryPeak, enough, seconds_of, some
from laserrec.training.texts import ItemTexts

SAMPLE_TOKENS = 2000
SAMPLE_BYTES = 64 * 2**20
"""Of a file on the disk of encoded texts, written to see how fast it is read."""
READS = 100_000
"""Of a trial of what is read again."""
SCANNED = 256
"""Items that are embedded at a time."""


@dataclass(frozen=True)
class TextCost:
    """What encoded texts take.

    Attributes:
        encode: seconds a byte, of encoding.
        read: seconds a byte, of reading out of the system's cache.
        memory: bytes that encoding takes beside what it makes.
    """

    encode: float
    read: float
    memory: int


class Again(NamedTuple):
    """Shares of all texts' size that are not in memory when they are asked for: once each in order, and by all training histories."""

    items: float
    histories: float


def try_texts(texts: ItemTexts, config: LaserConfig, kept: Path, available: int) -> TextCost:
    """Encode some lines into a folder and read them back, or read those that are there.

    Args:
        texts: the run's.
        config: its settings.
        kept: folder that the trial may write below.
        available: bytes of memory.
    """
    if not texts.count:
        return TextCost(0.0, 0.0, 0)
    device = texts.backbone.device
    # They are all in memory at once, and on disk.
    tokens = max(1, min(enough(SAMPLE_TOKENS, device), available // 16 // texts.token_bytes))
    lines = sorted(texts.lines([texts.items[item] for item in some(len(texts.items), tokens)]), key=len)
    ends = np.cumsum([len(line) for line in lines])
    # Neighbours in length, as they are encoded; in the middle, where their cost a token is the mean one.
    first = int(np.searchsorted(ends, max(0, (ends[-1] - tokens) // 2)))
    chosen = lines[first : int(np.searchsorted(ends, ends[first] + tokens)) + 1]
    cache = TextCache(texts.backbone, texts.backbone.tokenize(config.prompt.instruction), chosen, numbers=config.llm.cache)
    missing = bool(texts.missing_bytes)
    cache.open(kept if missing else texts_folder(), writes=missing)
    with MemoryPeak(device) as memory:
        encoding = seconds_of(cache.build) if missing else 0.0
    items = torch.arange(len(chosen))[:, None]
    reading = seconds_of(partial(cache.gather, items, torch.ones_like(items, dtype=torch.bool)))
    return TextCost(encoding / cache.bytes, reading / cache.bytes, memory.grown)


def read_again(histories: Ragged, lengths: NDArray[np.int64], held: float) -> Again:
    """Find out how much is read again in an epoch, by going through two in miniature, with blocks of a byte a token.

    Where there is much to read, a part of the items and as large a part of the memory tell the same (Waldspurger et al., "Efficient MRC
    construction with SHARDS", FAST 2015).

    Args:
        histories: item indices of what is read, in one draw of an epoch's order.
        lengths: tokens of each item's text, int64 [N].
        held: share of all texts' size that memory holds.
    """
    draws = np.random.default_rng(0)
    taken = np.flatnonzero((draws.random(len(lengths)) < READS / max(len(histories.values), READS)) & (lengths > 0))
    number = np.full(len(lengths), -1)
    number[taken] = np.arange(len(taken))
    sizes, size = lengths[taken], int(lengths[taken].sum())
    if not size:
        return Again(0.0, 0.0)
    arena = Arena((), torch.uint8, int(held * size))
    arena.resize(len(taken), size)
    found = Again(0.0, 0.0)
    for _ in range(2):  # the first fills the memory
        scanned = sum(_missed(arena, sizes, part) for part in np.array_split(np.arange(len(taken)), -(-len(taken) // SCANNED)))
        order, read = draws.permutation(len(histories)), 0
        for start in range(0, len(order), GROUP):
            asked = number[histories.take(order[start : start + GROUP]).values]
            read += _missed(arena, sizes, np.unique(asked[asked >= 0]))
        found = Again(scanned / size, read / size)
    return found


def disk_seconds(folder: Path, block: int) -> float:
    """Return the seconds a byte of reading blocks of a file that the system has not cached; those of its cache where none can be told so.

    Args:
        folder: where a file is written and removed again.
        block: bytes of a block.
    """
    path, blocks = folder / "disk", max(1, SAMPLE_BYTES // block)
    with path.open("w+b", buffering=0) as file:
        for _ in range(blocks):
            file.write(os.urandom(block))
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

        def read() -> None:
            for number in np.random.default_rng(0).permutation(blocks).tolist():
                file.seek(number * block)
                file.read(block)

        taken = seconds_of(read)
    path.unlink()
    return taken / (blocks * block)


def _missed(arena: Arena, sizes: NDArray[np.int64], blocks: NDArray[np.int64]) -> int:
    """Ask for blocks, each named once, and return the size of those that were not there."""
    wanted = torch.from_numpy(blocks)
    absent = blocks[arena.first[wanted].numpy() < 0]
    absent = absent[sizes[absent].argsort(kind="stable")]
    missed = int(sizes[absent].sum())
    with arena.together(blocks.tolist(), missed):
        for block in absent.tolist():
            arena.put(block, int(sizes[block]), _nothing)
    arena.used[wanted] = True
    return missed


def _nothing(room: Tensor) -> bool:
    return True
