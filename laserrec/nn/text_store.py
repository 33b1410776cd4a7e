"""Encoded texts on disk: one folder for everything that decides what a text's block is, shared by runs and datasets.

    <root>/<digest of the identity>/
        manifest.json               the identity: format, LLM, layers, type of the numbers, instruction
        shard-000000.safetensors    blocks end to end, their keys and checksums

A block's key is a hash of the text's tokens. A shard is written whole or not at all and never changed, so a reader needs no lock: the
folder's shards are what there is. Writers take turns by a lock. A shard that cannot be opened (cut short, a header or index that does not
match its checksum) counts as absent; a block's own checksum is compared when the block is read for the first time. What is damaged is
encoded again into a new shard, and of two blocks with one key the later shard's counts.

Knows nothing of items or histories.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from laserrec.checkpoint import read_json, write_json
from laserrec.errors import CheckpointError
from laserrec.nn.text_blocks import Numbers
from laserrec.nn.text_shard import KEY_BYTES, Shard, open_shard, write_shard

FORMAT = 1
SHARD_BYTES = 256 * 2**20
MAPPED_BYTES = 64 * 2**20
NOWHERE = -1
MANIFEST = "manifest.json"
UNREAD, INTACT, DAMAGED = 0, 1, 2


def keys_of(texts: Sequence[bytes]) -> NDArray[np.bytes_]:
    """Return the keys of texts, each given as the bytes of its token ids (int32)."""
    return np.array([hashlib.blake2b(text, digest_size=KEY_BYTES).digest() for text in texts], dtype=f"S{KEY_BYTES}")


class TextStore:
    """The blocks of one identity.

    A block's *place* is its number among all blocks of the open shards; it stays its number while this object lives.

    Attributes:
        folder: where the shards lie.
    """

    def __init__(self, root: Path, identity: Mapping[str, Any], row: Sequence[int], dtype: torch.dtype, numbers: Numbers) -> None:
        """Open what is there; nothing is written.

        Args:
            root: the folder of all identities.
            identity: everything that a block depends on beside its own tokens.
            row: shape of a row, 2, G, C.
            dtype: type of the numbers once read.
            numbers: how they are kept.
        """
        self._identity = {"format": FORMAT, "numbers": numbers, **identity}
        self._digest = hashlib.sha256(json.dumps(self._identity, sort_keys=True).encode()).hexdigest()[:32]
        self.folder = root / self._digest
        self._row, self._dtype, self._numbers = tuple(row), dtype, numbers
        self._shards: list[Shard] = []
        self._looked_at: dict[str, bool] = {}  # by file name, and whether it is a whole shard of ours
        self._state = np.empty(0, dtype=np.int8)
        self._mapped, self._mapped_bytes = list[Shard](), 0
        self._join()
        self.refresh()
        with suppress(OSError):  # there is none, or it is not ours to change
            os.utime(self.folder / MANIFEST)

    def refresh(self) -> bool:
        """Open the shards that were written since; return whether there are any."""
        names = [path.name for path in sorted(self.folder.glob("shard-*.safetensors")) if path.name not in self._looked_at]
        for name in names:
            shard = open_shard(self.folder / name, self._digest, self._row, self._dtype, self._numbers)
            self._looked_at[name] = shard is not None
            if shard is not None:
                self._shards.append(shard)
        if names:
            self._join()
        return bool(names)

    def find(self, keys: NDArray[np.bytes_], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the place of each block, by its key and its number of rows; -1 where there is none, or one known to be damaged."""
        if not len(self._sorted):
            return np.full(len(keys), NOWHERE)
        places = self._order[np.maximum(np.searchsorted(self._sorted, keys, side="right") - 1, 0)]
        found = (self._keys[places] == keys) & (self._sizes[places] == sizes) & (self._state[places] != DAMAGED)
        return np.where(found, places, NOWHERE)

    def read(self, place: int, rows: Tensor) -> bool:
        """Copy a block into rows [n, 2, G, C]; return False, and copy nothing, when it is damaged."""
        shard, block = self._find_block(place)
        if intact := self._intact(place):
            shard.read(block, rows)
        else:
            # Where one is damaged, others are likely to be, and are found at once, so that they are encoded together.
            for other in range(place - block, place - block + len(shard.ends)):
                self._intact(other)
        self._give_back(shard, rows.nbytes)
        return intact

    def _give_back(self, shard: Shard, count: int) -> None:
        """Keep the process from growing by what it has read once, some of it at a time."""
        self._mapped.append(shard)
        self._mapped_bytes += count
        if self._mapped_bytes > MAPPED_BYTES:
            for read in {id(read): read for read in self._mapped}.values():
                read.forget()
            self._mapped, self._mapped_bytes = [], 0

    def seconds(self, places: NDArray[np.int64]) -> float:
        """Return what encoding the blocks of some places took, by their share of their shards."""
        rows = np.bincount(np.searchsorted(self._first, places, side="right") - 1, self._sizes[places], len(self._shards))
        return float(sum(part / shard.ends[-1] * shard.seconds for part, shard in zip(rows, self._shards, strict=True)))

    @contextmanager
    def writing(self) -> Iterator[bool]:
        """Wait until no other process writes, and open what was written; yields whether there is any.

        Raises:
            CheckpointError: the folder cannot be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock"):
                news = self.refresh()
                self._tidy()
                yield news
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"Cannot keep encoded texts in {self.folder}: {error}. Make room, or set LASERREC_CACHE to a folder of your own."
            ) from error

    def append(self, keys: NDArray[np.bytes_], sizes: NDArray[np.int64], rows: Tensor, seconds: float) -> None:
        """Write a shard; only while `writing`.

        Args:
            keys: of its blocks, [blocks].
            sizes: rows of each, int64 [blocks].
            rows: the blocks end to end, [rows, 2, G, C].
            seconds: what encoding them took.
        """
        number = 1 + max((int(name.removesuffix(".safetensors").rpartition("-")[2]) for name in self._looked_at), default=-1)
        write_shard(self.folder / f"shard-{number:06}.safetensors", self._digest, keys, sizes, rows, self._numbers, seconds)
        self.refresh()

    def _tidy(self) -> None:
        """Remove what killed writers left and what is no whole shard, and say what the folder is."""
        for partial in self.folder.glob(".*.partial"):
            partial.unlink(missing_ok=True)
        for name, whole in self._looked_at.items():
            if not whole:
                (self.folder / name).unlink(missing_ok=True)
        with suppress(CheckpointError):
            if read_json(self.folder / MANIFEST) == self._identity:
                return
        write_json(self.folder / MANIFEST, self._identity)

    def _join(self) -> None:
        """Number the blocks of all shards, and sort their keys; of equal ones the last stands last."""
        self._first = np.cumsum([0, *(len(shard.ends) for shard in self._shards)])
        self._sizes = np.concatenate([np.empty(0, dtype=np.int64), *(np.diff(shard.ends, prepend=0) for shard in self._shards)])
        self._keys = np.concatenate([np.empty(0, dtype=f"S{KEY_BYTES}"), *(shard.keys for shard in self._shards)])
        self._order = self._keys.argsort(kind="stable")
        self._sorted = self._keys[self._order]
        self._state = np.concatenate([self._state, np.full(len(self._keys) - len(self._state), UNREAD, dtype=np.int8)])

    def _find_block(self, place: int) -> tuple[Shard, int]:
        """Return a place's shard, and its block's number there."""
        shard = int(np.searchsorted(self._first, place, side="right")) - 1
        return self._shards[shard], place - int(self._first[shard])

    def _intact(self, place: int) -> bool:
        """Compare a block with its checksum, once."""
        if self._state[place] == UNREAD:
            shard, block = self._find_block(place)
            self._state[place] = INTACT if shard.intact(block) else DAMAGED
        return bool(self._state[place] == INTACT)
