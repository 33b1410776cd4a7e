"""The blocks of all texts that somebody reads: in memory, else in the store, else encoded. Safe to use from many threads.

Texts are numbered; several lists of texts (`cache.TextCache`) share the blocks of those that they have in common, and a number is free
again when the last list that has it is gone. One lock guards what stands where. It is held while blocks are looked up and copied. It is
not held while the language model reads: two threads that lack the same text at the same time both encode it, and one of them is a little
late. Only where the store's own files are damaged, and may be replaced, do all wait until that is done.

Dimensions: B batch, S blocks of a history, G key/value heads, C head width.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from threading import RLock
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from laserrec.llm.backbone import Backbone
from laserrec.llm.buckets import CachedContext
from laserrec.system.resources import available_memory
from laserrec.text_cache.arena import Arena, Slot, release
from laserrec.text_cache.encoder import Encoder, Numbers, batches, cache_bytes, pack, unpack
from laserrec.text_cache.store import KEY_BYTES, NOWHERE, BlockKind, BlockStore, NoStore, OpenStore, keys_of

SHARD_BYTES = 256 * 2**20
"""Bytes of blocks that are written at a time: what a killed process loses at most."""
INSTRUCTION = 0
"""Number of the instruction's block; it is never in a store."""

Blocks = NDArray[np.int64]


class Held(NamedTuple):
    """Where blocks stand, for a reader.

    Attributes:
        rows: blocks among others, [rows, 2, G, C].
        first: first row of each block asked for, int64 [B, S].
        slots: what keeps them in place until it is released.
    """

    rows: Tensor
    first: Tensor
    slots: list[Slot]


class SharedBlocks:
    """Encoded texts by number.

    Attributes:
        encoder: computes blocks.
        instruction: token ids that every text is read after.
        numbers: how keys and values are kept in the store.
        lengths: tokens of each block, int64 by number; replaced by a longer one when numbers are added.
    """

    def __init__(self, backbone: Backbone, instruction: Sequence[int], *, numbers: Numbers, memory: int | None) -> None:
        """Encode the instruction; arguments as in `TextCache`."""
        self.encoder, self.instruction, self.numbers = Encoder(backbone), list(instruction), numbers
        decoder = self.encoder.decoder
        self._layers, self._lock, self._seconds = len(decoder), RLock(), 0.0
        limit = available_memory(backbone.device) // 2 if memory is None else memory
        # Blocks are held where they are read; where they stand, and which texts have them, is always known to the CPU.
        self._arena = Arena(self.encoder.row, decoder.storage_dtype, limit // cache_bytes(1, decoder) * self._layers, backbone.device)
        self._texts: list[bytes] = [b""]
        self._number_of: dict[bytes, int] = {}
        self._free: list[int] = []
        self._unread = deque[Blocks]()  # given back, but not yet taken account of
        self._released = deque[list[Slot]]()
        self._tokens = len(self.instruction)
        self.lengths = np.array([self._tokens])
        self._uses = np.ones(1, dtype=np.int64)
        self._keys = np.zeros(1, dtype=f"S{KEY_BYTES}")
        self._places = np.full(1, NOWHERE)  # of each block in the store
        self._kind = BlockKind(
            {
                "llm": backbone.fingerprint(),
                "layers": self._layers,
                "row": self.encoder.row,
                "dtype": str(decoder.storage_dtype).removeprefix("torch."),
                "instruction": self.instruction,
            },
            self.encoder.row,
            decoder.storage_dtype,
            numbers,
        )
        self._store: BlockStore = NoStore(self._kind)
        self._writes = False
        self._arena.resize(1, self._layers * self._tokens)
        self._head: Tensor | None = None
        if self.instruction:
            self._head = self.encoder.encode([torch.tensor(self.instruction)])
            self._put(np.array([INSTRUCTION]), self._head)
            self._arena.hold([INSTRUCTION])

    @property
    def limit(self) -> int:
        """Bytes of memory that blocks may take."""
        return self._arena.limit * cache_bytes(1, self.encoder.decoder) // self._layers

    # --- which texts there are ---

    def take(self, texts: Sequence[Sequence[int]]) -> Blocks:
        """Return the numbers of texts, given as token ids; they stay theirs until they are given back as often as they were taken."""
        with self._lock:
            self._settle()
            wanted = [np.asarray(text, dtype=np.int32).tobytes() for text in texts]
            new = [text for text in dict.fromkeys(wanted) if text not in self._number_of]
            self._make_room(len(new))
            added = np.array([self._free.pop() for _ in new], dtype=np.int64)
            for number, text in zip(added.tolist(), new, strict=True):
                self._texts[number], self._number_of[text] = text, number
            self.lengths[added] = [len(text) // 4 for text in new]
            self._keys[added] = keys_of(new)
            self._tokens += int(self.lengths[added].sum())
            self._arena.resize(len(self._texts), self._layers * self._tokens)
            self._locate(added)
            found = np.array([self._number_of[text] for text in wanted], dtype=np.int64)
            np.add.at(self._uses, found, 1)
            return found

    def take_again(self, blocks: Blocks) -> None:
        """Take numbers once more that somebody else has."""
        with self._lock:
            np.add.at(self._uses, blocks, 1)

    def give_back(self, blocks: Blocks) -> None:
        """Give numbers back, at any time and from any thread: a list of texts that is collected does so."""
        self._unread.append(blocks)

    def release(self, slots: list[Slot]) -> None:
        """Let blocks that were held go with the others again, at any time and from any thread."""
        if slots:
            self._released.append(slots)

    def _settle(self) -> None:
        """Take account of what was given back and released; under the lock."""
        while self._released:
            release(self._released.popleft())
        while self._unread:
            blocks = self._unread.popleft()
            np.subtract.at(self._uses, blocks, 1)
            gone = np.unique(blocks[self._uses[blocks] == 0])
            self._tokens -= int(self.lengths[gone].sum())
            self._arena.forget(gone.tolist())
            for number in gone.tolist():
                del self._number_of[self._texts[number]]
                self._texts[number] = b""
            self._places[gone] = NOWHERE
            self._free += gone.tolist()

    def _make_room(self, count: int) -> None:
        """Have numbers for so many new texts, with some to spare, so that a few texts that come and go never copy the tables."""
        known = len(self._texts)
        lacking = count - len(self._free)
        if lacking <= 0:
            return
        more = lacking + known // 8
        # The lowest numbers are given first.
        self._free = [*range(known + more - 1, known - 1, -1), *self._free]
        self._texts += [b""] * more
        self.lengths = np.concatenate([self.lengths, np.zeros(more, dtype=np.int64)])
        self._uses = np.concatenate([self._uses, np.zeros(more, dtype=np.int64)])
        self._keys = np.concatenate([self._keys, np.zeros(more, dtype=self._keys.dtype)])
        self._places = np.concatenate([self._places, np.full(more, NOWHERE)])

    # --- what the store has ---

    def open(self, store: OpenStore, *, writes: bool) -> None:
        """Read blocks from a store from now on; arguments as in `TextCache.open`."""
        with self._lock:
            self._store, self._writes = store(self._kind), writes
            self._locate(self._live())

    def unwritten(self, blocks: Blocks) -> Blocks:
        """Return those of some texts' blocks that the store lacks, the shortest first."""
        with self._lock:
            return self._shortest_first(blocks[(self._places[blocks] == NOWHERE) & (self.lengths[blocks] > 0)])

    def seconds(self, blocks: Blocks) -> float:
        """Return the seconds of encoding some texts, by those who wrote them, and of all that was encoded into memory here."""
        with self._lock:
            places = self._places[blocks]
            return self._seconds + self._store.seconds(places[places != NOWHERE])

    def write(self, blocks: Blocks, log: Callable[[int], None]) -> None:
        """Encode those of some texts that the store lacks, as `TextCache.build` does; `log` gets how many of all are done."""
        while len(self.unwritten(blocks)):
            with self._store.writing() as news:
                if news:
                    with self._lock:
                        self._locate(self._live())
                missing = self.unwritten(blocks)
                log(len(blocks) - len(missing))
                if len(missing):
                    self._write_first(missing, partial(_log_after, log, len(blocks) - len(missing)))

    def _write_first(self, missing: Blocks, log: Callable[[int], None]) -> None:
        """Encode the first of the blocks, sorted by length, and append them to the store."""
        began, done = time.monotonic(), 0
        sizes = self._sizes(missing)
        room = SHARD_BYTES // (cache_bytes(1, self.encoder.decoder, self.numbers) // self._layers)
        count = max(1, int((sizes.cumsum() <= room).sum()))
        blocks, sizes = missing[:count], sizes[:count]
        rows = torch.empty(int(sizes.sum()), *self.encoder.row, dtype=self.encoder.decoder.storage_dtype)
        filled = 0
        for part in self._batches(blocks):
            found = self._read_texts(part)
            rows[filled : filled + len(found)] = found
            filled += len(found)
            log(done := done + len(part))
        with self._lock:
            self._store.append(self._keys[blocks], sizes, rows, time.monotonic() - began)
            self._locate(blocks)

    def _locate(self, blocks: Blocks) -> None:
        self._places[blocks] = self._store.find(self._keys[blocks], self._sizes(blocks))

    def _live(self) -> Blocks:
        """Return the numbers of all texts that somebody has."""
        return 1 + np.flatnonzero(self._uses[1:])

    # --- what memory has ---

    def hold(self, blocks: Tensor, real: Tensor) -> Held:
        """Have blocks in memory, all at once.

        Args:
            blocks: numbers, int64 [B, S].
            real: False for those that need not be there, bool [B, S].
        """
        with self._lock:
            self._settle()
            first = self._arena.first[blocks]
            if not self._arena.bounded and not bool(((first < 0) & real).any()):
                return Held(self._arena.lend(), first, [])
        slots: list[Slot] = []
        try:
            missing, damaged = self._hold_kept(blocks[real].unique().numpy(), slots)
            if damaged and self._writes:
                with self._lock:  # also while it encodes: others must not read a store that is written to
                    self.write(self._live(), lambda _: None)
                missing, _ = self._hold_kept(missing, slots)
            for part, rows in self._encoded(missing):
                with self._lock:
                    self._put(part, rows)
                    slots += self._arena.hold(part.tolist())
            with self._lock:
                return Held(self._arena.rows, self._arena.first[blocks], slots)
        except BaseException:  # Ctrl-C as well: nobody else would release them
            self.release(slots)
            raise

    def _hold_kept(self, wanted: Blocks, slots: list[Slot]) -> tuple[Blocks, bool]:
        """Hold those of the blocks that are in memory or in the store; return the others, and whether the store has damaged ones."""
        with self._lock:
            absent = self._absent(wanted)
            slots += self._arena.hold(np.setdiff1d(wanted, absent).tolist())
            self._arena.used[torch.from_numpy(wanted)] = True
            with self._arena.together(absent.tolist(), int(self._sizes(absent).sum())):
                left = self._copy(absent, slots)
                damaged = bool((self._places[left] != NOWHERE).any())
                if damaged:  # another process may have mended them
                    self._store.refresh()
                    self._locate(self._live())
                    left = self._copy(left, slots)
        return left, damaged and len(left) > 0

    def _copy(self, blocks: Blocks, slots: list[Slot]) -> Blocks:
        """Copy blocks from the store into memory, hold them, and return those of which there is no intact copy."""
        left = []
        blocks = blocks[self._places[blocks].argsort(kind="stable")]  # file by file
        with self._store.reader() as read:
            for block, size, place in zip(blocks.tolist(), self._sizes(blocks).tolist(), self._places[blocks].tolist(), strict=True):
                if place != NOWHERE and self._arena.put(block, size, partial(read, place)):
                    slots += self._arena.hold([block])
                else:
                    left.append(block)
        return self._shortest_first(np.array(left, dtype=np.int64))

    def _absent(self, blocks: Blocks) -> Blocks:
        """Return those of the blocks that have tokens and are not in memory, the shortest first."""
        return self._shortest_first(blocks[(self._arena.first.numpy()[blocks] < 0) & (self.lengths[blocks] > 0)])

    def _put(self, blocks: Blocks, rows: Tensor) -> None:
        """Copy rows, those of several blocks end to end, into memory, but for blocks that another thread has brought meanwhile."""
        sizes = self._sizes(blocks).tolist()
        with self._arena.together(blocks.tolist(), sum(sizes)):
            for block, part in zip(blocks.tolist(), rows.split(sizes), strict=True):
                if self._arena.first[block] < 0:
                    self._arena.put(block, len(part), partial(_copy_into, part))

    def _encoded(self, blocks: Blocks) -> Iterator[tuple[Blocks, Tensor]]:
        """Encode blocks, sorted by length, and yield some at a time with their rows as they are kept."""
        for part in self._batches(blocks):
            began = time.monotonic()
            rows = self._read_texts(part)
            rows = rows if self.numbers == "exact" else unpack(*pack(rows), rows.dtype)
            self._seconds += time.monotonic() - began
            yield part, rows

    def _read_texts(self, blocks: Blocks) -> Tensor:
        """Return the rows of blocks, read after the instruction, end to end."""
        texts = [torch.from_numpy(np.frombuffer(self._texts[block], dtype=np.int32).astype(np.int64)) for block in blocks.tolist()]
        if self._head is None:
            return self.encoder.encode(texts)
        head = len(self.instruction)
        places = torch.arange(head, device=self._head.device).expand(len(texts), -1)
        mask = torch.ones_like(places, dtype=torch.bool)
        return self.encoder.encode(
            texts, head, CachedContext(self._head, places, torch.full_like(places, head), places, mask, padded=False)
        )

    def _batches(self, blocks: Blocks) -> Iterator[Blocks]:
        return (blocks[part] for part in batches(self.lengths[blocks]))

    def _shortest_first(self, blocks: Blocks) -> Blocks:
        ordered: Blocks = blocks[self.lengths[blocks].argsort(kind="stable")]
        return ordered

    def _sizes(self, blocks: Blocks) -> Blocks:
        """Return how many rows each block has."""
        return self._layers * self.lengths[blocks]


def _copy_into(rows: Tensor, room: Tensor) -> bool:
    room.copy_(rows)
    return True


def _log_after(log: Callable[[int], None], before: int, done: int) -> None:
    log(before + done)
