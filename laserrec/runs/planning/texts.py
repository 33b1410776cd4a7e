"""What encoded texts take: encoding them, reading them, and reading again those that memory does not hold.

Dimensions: N catalogue.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from laserrec.config import LaserConfig
from laserrec.data.ragged import Ragged
from laserrec.laser.item_texts import ItemTexts
from laserrec.laser.system import ITEMS_AT_ONCE
from laserrec.runs.planning.probe import enough, seconds_of, some
from laserrec.system.cache import texts_folder
from laserrec.system.resources import MemoryPeak
from laserrec.text_cache.arena import Arena
from laserrec.text_cache.cache import TextCache
from laserrec.text_cache.disk import DiskStore

SAMPLE_TOKENS = 2000
SAMPLE_BYTES = 64 * 2**20
"""Of a file on the disk of encoded texts, written to see how fast it is read."""
READS = 100_000
"""Of a trial of what is read again."""


@dataclass(frozen=True)
class TextCost:
    """What encoded texts take.

    Attributes:
        encode: seconds a byte, of encoding.
        read: seconds a byte, of reading for the first time, checksums and all.
        again: seconds a byte, of reading once more out of the system's cache.
        memory: bytes that encoding takes beside what it makes.
    """

    encode: float
    read: float
    again: float
    memory: int


class Rereading(NamedTuple):
    """Seconds of reading what memory does not hold: for an item matrix, and for a history."""

    items: float
    history: float


class Missed(NamedTuple):
    """Shares of all texts' size that are not in memory when an epoch asks for them: for the item matrix, and for all histories."""

    items: float
    histories: float


def try_texts(texts: ItemTexts, config: LaserConfig, kept: Path, available: int, *, missing: bool) -> TextCost:
    """Encode some lines into a folder and read them back, or read those that are there.

    Args:
        texts: the run's.
        config: its settings.
        kept: folder that the trial may write below.
        available: bytes of memory.
        missing: whether any of the run's texts is not encoded yet.
    """
    if not texts.count:
        return TextCost(0.0, 0.0, 0.0, 0)
    device = texts.backbone.device
    # They are all in memory at once, and on disk.
    tokens = max(1, min(enough(SAMPLE_TOKENS, device), available // 16 // texts.token_bytes))
    lines = sorted(texts.lines([texts.items[item] for item in some(len(texts.items), tokens)]), key=len)
    ends = np.cumsum([len(line) for line in lines])
    # Neighbours in length, as they are encoded; in the middle, where their cost a token is the mean one.
    first = int(np.searchsorted(ends, max(0, (ends[-1] - tokens) // 2)))
    chosen = lines[first : int(np.searchsorted(ends, ends[first] + tokens)) + 1]
    cache = TextCache(texts.backbone, texts.backbone.tokenize(config.prompt.instruction), chosen, numbers=config.llm.cache)
    cache.open(DiskStore.under(kept if missing else texts_folder()), writes=missing)
    with MemoryPeak(device) as memory:
        encoding = seconds_of(cache.build) if missing else 0.0
    items = torch.arange(len(chosen))[:, None]
    mask = torch.ones_like(items, dtype=torch.bool)
    reading, size = seconds_of(partial(cache.gather, items, mask)), cache.bytes
    # Forgotten, they are read from files that are known to be whole, into memory that was used before.
    nothing = cache.take(items[:0, 0])
    del cache
    again = seconds_of(partial(nothing.extended(chosen).gather, items, mask))
    return TextCost(encoding / size, reading / size, again / size, memory.grown)


def rereading(texts: ItemTexts, histories: Ragged, cost: TextCost, *, rows: int, spare: int, folder: Path) -> Rereading:
    """Predict the reading of texts that memory does not hold, out of the system's cache and, where that is too small, from the disk.

    A guess of what the system keeps: what was read last, beside what memory holds.

    Args:
        texts: the run's.
        histories: what the language model reads in an epoch.
        cost: of these texts.
        rows: histories that are read together.
        spare: bytes of the machine's memory in which the system may keep files.
        folder: on the disk of encoded texts.
    """
    items = history = 0.0
    for place, cache in enumerate(texts.caches):
        if cache.memory >= cache.unlimited_memory:
            continue
        every = torch.arange(len(cache))[:, None]
        lengths = cache.count_tokens(every, torch.ones_like(every, dtype=torch.bool)).numpy()
        # With an instruction of their own, items are read out of a cache of their own.
        asked = histories if place == 0 else Ragged.from_rows([])
        missed = partial(read_again, asked, lengths, rows=rows, items=place == len(texts.caches) - 1)
        held, kept = cache.memory / cache.unlimited_memory, spare / texts.bytes
        found = [(missed(held), cost.again)]
        if held + kept < 1:
            found.append((missed(held + kept), disk_seconds(folder, -(-cache.bytes // cache.texts))))
        items += sum(cache.bytes * share.items * second for share, second in found)
        history += sum(cache.bytes * share.histories * second for share, second in found) / max(len(histories), 1)
    return Rereading(items, history)


def read_again(histories: Ragged, lengths: NDArray[np.int64], held: float, *, rows: int, items: bool = True) -> Missed:
    """Find out how much of the texts is not in memory when it is read, by going through two epochs with blocks of a byte a token.

    Where there is much to read, a part of the items and as large a part of the memory tell the same (Waldspurger et al., "Efficient MRC
    construction with SHARDS", FAST 2015). Items of one text count apart.

    Args:
        histories: item indices of what is read; the order of an epoch is drawn here.
        lengths: tokens of each item's text, int64 [N].
        held: share of all texts' size that memory holds.
        rows: histories that are read together.
        items: whether every item is read as well, in order, before the histories.
    """
    draws = np.random.default_rng(0)
    rate = READS / max(len(histories.values), len(lengths), READS)
    taken = np.flatnonzero((draws.random(len(lengths)) < rate) & (lengths > 0))
    number = np.full(len(lengths), -1)
    number[taken] = np.arange(len(taken))
    sizes, size = lengths[taken], int(lengths[taken].sum())
    if not size:
        return Missed(0.0, 0.0)
    arena = Arena((), torch.uint8, int(held * size))
    arena.resize(len(taken), size)
    parts = np.arange(len(taken))[: len(taken) * items]
    found = Missed(0.0, 0.0)
    for _ in range(2):  # the first fills the memory
        scanned = sum(_missed(arena, sizes, part) for part in _split(parts, max(1, round(ITEMS_AT_ONCE * rate))))
        order = histories.take(draws.permutation(len(histories)))
        asked = (number[order.values[start:end]] for start, end in pairwise([*order.offsets[:-1:rows].tolist(), len(order.values)]))
        read = sum(_missed(arena, sizes, np.unique(blocks[blocks >= 0])) for blocks in asked)
        found = Missed(scanned / size, read / size)
    return found


def disk_seconds(folder: Path, block: int) -> float:
    """Return the seconds a byte of reading blocks of a file that the system has not cached.

    Where the system cannot be asked to forget a file, they are those of its cache; where there is no room for one, 0.

    Args:
        folder: where a file is written and removed again.
        block: bytes of a block.
    """
    blocks = max(1, SAMPLE_BYTES // block)
    try:
        with TemporaryFile(dir=folder, buffering=0) as file:
            for _ in range(blocks):
                file.write(os.urandom(block))
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return seconds_of(partial(_read_blocks, file, blocks, block)) / (blocks * block)
    except OSError:
        return 0.0


def _read_blocks(file: IO[bytes], blocks: int, block: int) -> None:
    for number in np.random.default_rng(0).permutation(blocks).tolist():
        file.seek(number * block)
        file.read(block)


def _split(values: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    return [values[start : start + count] for start in range(0, len(values), count)]


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
