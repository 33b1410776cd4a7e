"""Encoded texts on disk: one folder for everything that decides what a text's block is, shared by runs and datasets.

    <root>/<digest of the identity>/
        manifest.json               the identity: format, LLM, layers, type of the numbers, instruction
        shard-000000.safetensors    blocks end to end, their keys and checksums

A block's key is a hash of the text's tokens. A shard is written atomically and never changed, so a reader needs no lock: the
folder's shards are what there is. Writers take turns by a lock. A file that is no whole shard (cut short, a header or index that does not
match its checksum) counts as absent, and a writer removes it; one that cannot be opened or read is an error, for it may be whole. A block's
own checksum is compared when the block is read for the first time. What is damaged is encoded again into a new shard, and of two blocks
with one key the later shard's counts. A shard that is deleted, replaced or written to while it is in use counts
as damaged; where another file takes its place, from the next batch on.

One file is open at a time, while blocks are read, so a folder may have any number of shards.

Knows nothing of items or histories.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from io import FileIO
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from laserrec.errors import CheckpointError
from laserrec.system.atomic import ENDING, discard
from laserrec.system.files import read_json, write_json
from laserrec.text_cache.shard import Shard, Stamp, open_shard, write_shard
from laserrec.text_cache.store import KEY_BYTES, NOWHERE, BlockKind, OpenStore, ReadBlock

FORMAT = 1
MANIFEST = "manifest.json"
SHARD = re.compile(r"shard-(\d+)\.safetensors")
UNREAD, INTACT, DAMAGED = 0, 1, 2


class DiskStore:
    """Keeps blocks of one identity in files: the `BlockStore` that is used by default.

    A block's *place* is its number among all blocks of the open shards; it stays its number while this object lives.

    Attributes:
        folder: where the shards lie.
    """

    def __init__(self, root: Path, kind: BlockKind) -> None:
        """Open what is there; nothing is written.

        Args:
            root: the folder of all identities.
            kind: of the blocks.

        Raises:
            CheckpointError: a file cannot be opened or read.
        """
        self._kind, self._identity = kind, {"format": FORMAT, "numbers": kind.numbers, **kind.identity}
        self._digest = hashlib.sha256(json.dumps(self._identity, sort_keys=True).encode()).hexdigest()[:32]
        self.folder = root / self._digest
        self._shards: list[Shard] = []
        self._state = np.empty(0, dtype=np.int8)
        self._join()
        self.refresh()
        with suppress(OSError):  # there is none, or it is not ours to change
            os.utime(self.folder / MANIFEST)

    @classmethod
    def under(cls, root: Path) -> OpenStore:
        """Return what opens the store of any kind of blocks under a folder."""
        return partial(cls, root)

    def refresh(self) -> bool:
        """Open the shards that were written since; return whether there are any.

        Raises:
            CheckpointError: a file cannot be opened or read.
        """
        try:
            return self._look()[0]
        except OSError as error:
            raise self._failure("read", error) from error

    def _look(self) -> tuple[bool, list[Path]]:
        """Open the shards that were written since; return whether there are any, and the files that are no whole shards of ours."""
        known = {(shard.path.name, shard.stamp) for shard in self._shards}
        new, broken = list[Shard](), list[Path]()
        for path in self._files().values():
            with suppress(FileNotFoundError):  # removed just now
                if (path.name, Stamp.of(path.stat())) in known:
                    continue
                shard = open_shard(path, self._digest, self._kind)
                if shard is None:
                    broken.append(path)
                else:
                    new.append(shard)
        if new:
            self._shards += new
            self._join()
        return bool(new), broken

    def _files(self) -> dict[int, Path]:
        """Return what is named as a shard, by number, in order."""
        try:
            names = [found for name in os.listdir(self.folder) if (found := SHARD.fullmatch(name))]
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return dict(sorted((int(name[1]), self.folder / name[0]) for name in names))

    def find(self, keys: NDArray[np.bytes_], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the place of each block, by its key and its number of rows; -1 where there is none, or one known to be damaged."""
        if not len(self._sorted):
            return np.full(len(keys), NOWHERE)
        places = self._order[np.maximum(np.searchsorted(self._sorted, keys, side="right") - 1, 0)]
        found = (self._keys[places] == keys) & (self._sizes[places] == sizes) & (self._state[places] != DAMAGED)
        return np.where(found, places, NOWHERE)

    @contextmanager
    def reader(self) -> Iterator[ReadBlock]:
        """Yield what copies blocks one by one, each by its place into rows [n, 2, G, C].

        It returns False where a block is damaged or gone; rows then hold anything. The file that was read last stays open meanwhile, so
        blocks are best read in the order of their places.

        Raises:
            CheckpointError: a file cannot be opened or read.
        """
        number, file = NOWHERE, None
        with ExitStack() as last:

            def read(place: int, rows: Tensor) -> bool:
                nonlocal number, file
                wanted = int(np.searchsorted(self._first, place, side="right")) - 1
                try:
                    if wanted != number:
                        number = NOWHERE
                        last.close()
                        file = last.enter_context(self._shards[wanted].opened())
                        number = wanted
                    return self._read(number, file, place, rows)
                except OSError as error:
                    raise self._failure("read", error) from error

            yield read

    def _read(self, number: int, file: FileIO | None, place: int, rows: Tensor) -> bool:
        shard, first = self._shards[number], int(self._first[number])
        if self._state[place] == DAMAGED:  # found just now, beside another one
            return False
        intact = shard.read(file, place - first, rows, check=self._state[place] == UNREAD)
        self._state[place] = INTACT if intact else DAMAGED
        if not intact:
            # Where one is damaged, others are likely to be, and are found at once, so that they are encoded together.
            self._state[first : first + len(shard.ends)] = np.where(shard.intact(file), INTACT, DAMAGED)
        return intact

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
                news, broken = self._look()
                self._tidy(broken)
                yield news
        except (OSError, SafetensorError) as error:
            raise self._failure("keep", error) from error

    def append(self, keys: NDArray[np.bytes_], sizes: NDArray[np.int64], rows: Tensor, seconds: float) -> None:
        """Write a shard; only while `writing`.

        Args:
            keys: of its blocks, [blocks].
            sizes: rows of each, int64 [blocks].
            rows: the blocks end to end, [rows, 2, G, C].
            seconds: what encoding them took.
        """
        path = self.folder / f"shard-{1 + max(self._files(), default=-1):06}.safetensors"
        write_shard(path, self._digest, keys, sizes, rows, self._kind.numbers, seconds)
        broken = self._look()[1]
        if bool((self.find(keys, sizes) == NOWHERE).any()):
            raise CheckpointError(
                f"What was just written to {path} is not what is there now. "
                "Look to the disk and to what else writes there, or set LASERREC_CACHE to another folder."
            )
        self._tidy(broken)

    def _tidy(self, broken: Sequence[Path]) -> None:
        """Remove what killed writers left and what is no whole shard, and say what the folder is; only while `writing`.

        Args:
            broken: files that were found to be no whole shards in this turn: what was seen before it, another writer may have mended.
        """
        for left in self.folder.glob(f".*{ENDING}"):
            discard(left)
        last = next(reversed(self._files().values()), None)
        for path in broken:
            if path != last:  # which stays until another follows it, so that no number is given twice
                path.unlink(missing_ok=True)
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

    def _failure(self, doing: str, error: Exception) -> CheckpointError:
        """Say what happened, and what helps."""
        number = error.errno if isinstance(error, OSError) else None
        own = "set LASERREC_CACHE to a folder of your own"
        if number in (errno.EMFILE, errno.ENFILE):
            advice = f"A process may have {os.sysconf('SC_OPEN_MAX'):,} files open here: raise that (`ulimit -n`), or have it open fewer."
        elif number == errno.ENOMEM:
            advice = "Free memory, or lower runtime.text_memory."
        elif number in (errno.EACCES, errno.EPERM):
            advice = f"Ask whoever owns it for the right to, or {own}."
        elif doing == "keep" and number != errno.EIO:
            advice = f"Make room, or {own}."
        else:
            advice = f"Delete the file if it stays unreadable, so that its texts are encoded again, or {own}."
        return CheckpointError(f"Cannot {doing} encoded texts in {self.folder}: {error}. {advice}")
