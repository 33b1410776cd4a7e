"""Text-once: every text's keys and values at every layer, computed a single time.

With the prompt order [text; P; s] no text token attends to a trainable token, so what the frozen LLM makes of a text is a constant. A
*block* is one text: the instruction, or one item's line read after the instruction. Blocks do not see each other; the virtual tokens
see the instruction and all blocks of a history, standing one after the other in time order.

`text_blocks` computes blocks, `text_store` keeps them on disk, `arena` holds them in memory. Here items find their blocks: in memory, else
on disk, else they are encoded.

Dimensions: B batch, S blocks of a history, T context tokens.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from laserrec.llm.backbone import Backbone
from laserrec.llm.buckets import CachedContext
from laserrec.system.resources import available_memory
from laserrec.text_cache.arena import Arena, Slot, release
from laserrec.text_cache.encoder import Encoder, Numbers, batches, cache_bytes, pack, unpack
from laserrec.text_cache.store import NOWHERE, SHARD_BYTES, TextStore, keys_of

INSTRUCTION = 0  # its block's number

Blocks = NDArray[np.int64]


class TextCache:
    """Blocks of the instruction and of items; items of the same text share one.

    Attributes:
        decoder: runs new tokens over what `gather` returns.
        bytes: of all items' blocks, encoded or not yet, as they are kept on disk.
    """

    def __init__(
        self,
        backbone: Backbone,
        instruction: Sequence[int],
        items: Sequence[Sequence[int]],
        *,
        numbers: Numbers = "exact",
        memory: int | None = None,
    ) -> None:
        """Take the texts; only the instruction is encoded yet.

        Args:
            backbone: the frozen LLM.
            instruction: token ids that stand before every history; may be empty.
            items: token ids of each item's line, in index order.
            numbers: how keys and values are kept; `int8` halves the disk they take.
            memory: bytes of blocks to hold in the memory of the LLM's device; half of what is free when None. More only if a single batch
                needs more.
        """
        self.backbone, self.numbers = backbone, numbers
        self._encoder = Encoder(backbone)
        self.decoder = self._encoder.decoder
        self.instruction_tokens = list(instruction)
        self._layers = len(self.decoder)
        self._store: TextStore | None = None
        self._writes, self._seconds = False, 0.0
        self._texts: list[bytes] = [b""]  # of each block; the instruction's is never looked for
        self._blocks: dict[bytes, int] = {}
        self._of_item = torch.empty(0, dtype=torch.int64)
        self._lengths = torch.tensor([len(self.instruction_tokens)])  # tokens of each block
        self._keys = keys_of(self._texts)
        self._places = np.full(1, NOWHERE)  # of each block in the store
        limit = available_memory(backbone.device) // 2 if memory is None else memory
        # Blocks are held where they are read; where they stand, and which items have them, is always known to the CPU.
        self._arena = Arena(
            self._encoder.row, self.decoder.storage_dtype, limit // cache_bytes(1, self.decoder) * self._layers, backbone.device
        )
        self.extend(items)
        if self.instruction_tokens:
            rows = self._encoder.encode([torch.tensor(self.instruction_tokens)])
            self._put([INSTRUCTION], rows)
            self._arena.hold([INSTRUCTION])

    def __len__(self) -> int:
        return len(self._of_item)

    def extend(self, items: Sequence[Sequence[int]]) -> None:
        """Take further items' token ids; they get the next indices."""
        known, of_item = len(self._texts), []
        for row in items:
            text = np.asarray(row, dtype=np.int32).tobytes()
            if text not in self._blocks:
                self._blocks[text] = len(self._texts)
                self._texts.append(text)
            of_item.append(self._blocks[text])
        self._of_item = torch.cat([self._of_item, torch.tensor(of_item, dtype=torch.int64)])
        self._lengths = torch.cat([self._lengths, torch.tensor([len(text) // 4 for text in self._texts[known:]], dtype=torch.int64)])
        self._keys = np.concatenate([self._keys, keys_of(self._texts[known:])])
        self._places = np.concatenate([self._places, np.full(len(self._texts) - known, NOWHERE)])
        self._arena.resize(len(self._texts), self._layers * int(self._lengths.sum()))
        self._locate(np.arange(known, len(self._texts)))

    def shrink(self, count: int) -> None:
        """Forget the last `count` items, and the blocks that only they have."""
        self._of_item = self._of_item[: len(self) - count]
        # Blocks are numbered as they come, so those of the last items alone are the last.
        kept = max(int(self._of_item.max()) + 1 if len(self) else 0, INSTRUCTION + 1)
        for text in self._texts[kept:]:
            del self._blocks[text]
        del self._texts[kept:]
        self._lengths, self._keys, self._places = self._lengths[:kept], self._keys[:kept], self._places[:kept]
        self._arena.resize(kept, self._layers * int(self._lengths.sum()))

    @property
    def texts(self) -> int:
        """Number of different texts."""
        return len(self._blocks)

    @property
    def tokens(self) -> int:
        """Number of tokens of all texts, each text counted once, and of the instruction."""
        return int(self._lengths.sum())

    @property
    def bytes(self) -> int:
        """Bytes of the keys and values of all texts, encoded or not yet, as they are kept on disk."""
        return cache_bytes(self.tokens, self.decoder, self.numbers)

    @property
    def missing(self) -> int:
        """Number of tokens that `build` would encode: those of the texts that the folder lacks, or of all while none is open."""
        return int(self._lengths.numpy()[self._unwritten()].sum())

    @property
    def memory(self) -> int:
        """Bytes of memory that blocks take once all were read, or the limit where that is less."""
        return min(self.unlimited_memory, self._arena.limit * cache_bytes(1, self.decoder) // self._layers)

    @property
    def unlimited_memory(self) -> int:
        """Bytes of memory that they would take without a limit."""
        return cache_bytes(self.tokens, self.decoder)

    @property
    def complete(self) -> bool:
        """Whether every item is encoded."""
        known = (self._arena.first.numpy() >= 0) | (self._places != NOWHERE) | (self._lengths.numpy() == 0)
        return bool(known.all())

    @property
    def seconds(self) -> float:
        """What encoding the texts took, in this process or in those that kept them."""
        found = self._places[self._places != NOWHERE]
        return self._seconds + (self._store.seconds(found) if self._store else 0.0)

    def open(self, root: Path, *, writes: bool) -> None:
        """Read blocks from the folder of this identity under `root` from now on.

        Args:
            root: the folder of all identities.
            writes: whether `build` may be called, and damaged blocks are replaced.

        Raises:
            CheckpointError: what is there cannot be opened or read.
        """
        identity = {
            "llm": self.backbone.fingerprint(),
            "layers": self._layers,
            "row": self._encoder.row,
            "dtype": str(self.decoder.storage_dtype).removeprefix("torch."),
            "instruction": self.instruction_tokens,
        }
        self._store, self._writes = TextStore(root, identity, self._encoder.row, self.decoder.storage_dtype, self.numbers), writes
        self._locate(np.arange(len(self._texts)))

    def build(self, told: Callable[[int], None] = lambda _: None) -> None:
        """Encode what the folder lacks, shard by shard: a process that is killed loses one shard at most.

        Several processes take turns, and none encodes what another has written.

        Args:
            told: told how many texts are encoded so far.

        Raises:
            CheckpointError: the folder cannot be written to, or does not keep what is written.
        """
        assert self._store is not None, "build() follows open()"
        while len(self._unwritten()):
            with self._store.writing() as news:
                if news:
                    self._locate(np.arange(len(self._texts)))
                missing = self._unwritten()
                told(self.texts - len(missing))
                if len(missing):
                    self._write(missing, told)

    def require(self, items: Tensor, told: Callable[[int], None] = lambda _: None) -> None:
        """Encode into memory those of the items (indices int64 [n], any order, repeats allowed) that are not encoded yet.

        `told` is told how many are encoded so far.
        """
        blocks = self._of_item[items.cpu()].unique().numpy()
        self._encode(self._absent(blocks[self._places[blocks] == NOWHERE]), told)

    def count_tokens(self, items: Tensor, mask: Tensor) -> Tensor:
        """Return the number of the items' tokens in each history, int64 [B], on the items' device; arguments as in `gather`."""
        return torch.where(mask, self._lengths[self._of_item[items.cpu()]].to(items.device), 0).sum(1)

    def gather(self, items: Tensor, mask: Tensor) -> CachedContext:
        """Lay the instruction and the histories' blocks one after the other, on the LLM's device.

        Args:
            items: indices int64 [B, S], padded on the right, on any device.
            mask: True where an item is real, bool [B, S].
        """
        items, mask = items.cpu(), mask.cpu()
        blocks = torch.cat([torch.zeros(len(items), 1, dtype=torch.int64), torch.where(mask, self._of_item[items], INSTRUCTION)], dim=1)
        lengths = self._lengths[blocks]
        lengths[:, 1:].masked_fill_(~mask, 0)
        first = self._arena.first[blocks]
        if self._arena.bounded or bool(((first < 0) & (lengths > 0)).any()):
            held = self._bring(blocks[lengths > 0].unique())
            first = self._arena.first[blocks]
        ends = lengths.cumsum(1)
        totals = ends[:, -1:]
        places = torch.arange(int(totals.max()) if len(totals) else 0).expand(len(items), -1).contiguous()
        block = torch.searchsorted(ends, places, right=True).clamp_(max=items.shape[1])
        real = places < totals
        index = (first - ends + lengths).gather(1, block) + places
        stride = lengths.gather(1, block)
        zero = torch.zeros((), dtype=torch.int64)
        told = *(torch.where(real, part, zero) for part in (index, stride, places)), real
        index, stride, places, mask = (part.to(self._arena.rows.device) for part in told)
        found = CachedContext(self._arena.rows, index, stride, places, mask, padded=not bool(real.all()))
        if self._arena.bounded:
            weakref.finalize(found, release, held).atexit = False
        return found

    def _bring(self, wanted: Tensor) -> list[Slot]:
        """Have blocks, none of them empty, in memory, all at once."""
        blocks = wanted.numpy()
        absent = self._absent(blocks)
        with self._arena.together(blocks.tolist(), int(self._sizes(absent).sum())):
            self._encode(self._load(absent))
            if not self._arena.bounded:
                return []
            self._arena.used[wanted] = True
            return self._arena.hold(blocks.tolist())

    def _absent(self, blocks: Blocks) -> Blocks:
        """Return those of the blocks that have tokens and are not in memory, the shortest first."""
        lengths = self._lengths.numpy()[blocks]
        return self._shortest_first(blocks[(self._arena.first.numpy()[blocks] < 0) & (lengths > 0)])

    def _unwritten(self) -> Blocks:
        """Return the blocks that have tokens and are not on disk, the shortest first."""
        lengths = self._lengths.numpy()
        # The instruction, block 0, stays in memory.
        return self._shortest_first(1 + np.flatnonzero((self._places[1:] == NOWHERE) & (lengths[1:] > 0)))

    def _shortest_first(self, blocks: Blocks) -> Blocks:
        ordered: Blocks = blocks[self._lengths.numpy()[blocks].argsort(kind="stable")]
        return ordered

    def _locate(self, blocks: Blocks) -> None:
        """Look blocks up on disk."""
        if self._store is not None:
            self._places[blocks] = self._store.find(self._keys[blocks], self._sizes(blocks))

    def _sizes(self, blocks: Blocks) -> Blocks:
        """Return how many rows each block has."""
        return self._layers * self._lengths.numpy()[blocks]

    def _load(self, blocks: Blocks) -> Blocks:
        """Copy blocks from disk into memory and return those that are not there, or damaged there and not mended."""
        if self._store is None:
            return blocks
        left = self._copy(blocks)
        if len(left) and bool((self._places[left] != NOWHERE).any()):
            self._store.refresh()  # another process may have mended them
            self._locate(np.arange(len(self._texts)))
            if self._writes:
                self.build()
                left = self._copy(left)
        return left

    def _copy(self, blocks: Blocks) -> Blocks:
        """Copy blocks from disk into memory and return those of which there is no intact copy."""
        assert self._store is not None
        left = []
        blocks = blocks[self._places[blocks].argsort(kind="stable")]  # file by file
        with self._store.reader() as read:
            for block, size, place in zip(blocks.tolist(), self._sizes(blocks).tolist(), self._places[blocks].tolist(), strict=True):
                if place == NOWHERE or not self._arena.put(block, size, partial(read, place)):
                    left.append(block)
        return self._shortest_first(np.array(left, dtype=np.int64))

    def _encode(self, blocks: Blocks, told: Callable[[int], None] = lambda _: None) -> None:
        """Encode blocks, sorted by length, into memory alone."""
        began, done = time.monotonic(), 0
        for part in self._batches(blocks):
            rows = self._read_texts(part)
            self._put(part.tolist(), rows if self.numbers == "exact" else unpack(*pack(rows), rows.dtype))
            told(done := done + len(part))
        if done:
            self._seconds += time.monotonic() - began

    def _write(self, missing: Blocks, told: Callable[[int], None]) -> None:
        """Encode the first of the blocks, sorted by length, into a new shard."""
        assert self._store is not None
        began, done = time.monotonic(), self.texts - len(missing)
        sizes = self._sizes(missing)
        room = SHARD_BYTES // (cache_bytes(1, self.decoder, self.numbers) // self._layers)
        count = max(1, int((sizes.cumsum() <= room).sum()))
        blocks, sizes = missing[:count], sizes[:count]
        rows = torch.empty(int(sizes.sum()), *self._encoder.row, dtype=self.decoder.storage_dtype)
        filled = 0
        for part in self._batches(blocks):
            found = self._read_texts(part)
            rows[filled : filled + len(found)] = found
            filled += len(found)
            told(done := done + len(part))
        self._store.append(self._keys[blocks], sizes, rows, time.monotonic() - began)
        self._locate(blocks)

    def _batches(self, blocks: Blocks) -> Iterator[Blocks]:
        return (blocks[part] for part in batches(self._lengths.numpy()[blocks]))

    def _read_texts(self, blocks: Blocks) -> Tensor:
        """Return the rows of blocks, read after the instruction, end to end."""
        texts = [torch.from_numpy(np.frombuffer(self._texts[block], dtype=np.int32).astype(np.int64)) for block in blocks.tolist()]
        head = len(self.instruction_tokens)
        if not head:
            return self._encoder.encode(texts)
        rows = self._arena.rows
        places = torch.arange(head, device=rows.device).expand(len(texts), -1)
        index = places + int(self._arena.first[INSTRUCTION])
        mask = torch.ones_like(places, dtype=torch.bool)
        return self._encoder.encode(texts, head, CachedContext(rows, index, torch.full_like(index, head), places, mask, padded=False))

    def _put(self, blocks: Sequence[int], rows: Tensor) -> None:
        """Take rows, those of several blocks end to end, into memory."""
        sizes = self._sizes(np.array(blocks)).tolist()
        for block, part in zip(blocks, rows.split(sizes), strict=True):
            self._arena.put(block, len(part), partial(_copy_into, part))


def _copy_into(rows: Tensor, room: Tensor) -> bool:
    room.copy_(rows)
    return True
