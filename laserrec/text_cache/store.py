"""What keeps encoded texts: the protocol that the text cache reads and writes by, and stores that need no disk.

A *block* is one encoded text; its *key* is a hash of the text's tokens. A store numbers the blocks it finds: a block's *place* stays its
number while the store is open. `disk.DiskStore` is the one that is used by default. A cache locks a store: one thread at a time calls it.

Knows nothing of items, histories or language models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from laserrec.text_cache.encoder import Numbers

KEY_BYTES = 16
NOWHERE = -1
"""Place of a block that a store does not have."""

Keys = NDArray[np.bytes_]
Places = NDArray[np.int64]
ReadBlock = Callable[[int, Tensor], bool]
"""Copies the block at a place into rows [n, 2, G, C]; False where it is damaged or gone, and rows then hold anything."""


@dataclass(frozen=True)
class BlockKind:
    """What a store's blocks are.

    Attributes:
        identity: everything that a block depends on beside its own tokens.
        row: shape of a row, 2, G, C.
        dtype: type of the numbers once read.
        numbers: how they are kept.
    """

    identity: Mapping[str, Any]
    row: tuple[int, int, int]
    dtype: torch.dtype
    numbers: Numbers


class BlockStore(Protocol):
    """Keeps blocks of one kind."""

    def find(self, keys: Keys, sizes: NDArray[np.int64]) -> Places:
        """Return the place of each block, by its key and its number of rows; `NOWHERE` where the store has no intact one."""

    def reader(self) -> AbstractContextManager[ReadBlock]:
        """Yield what copies blocks one by one; quickest in the order of their places."""

    def refresh(self) -> bool:
        """Look for blocks that others have written since; return whether there are any."""

    def writing(self) -> AbstractContextManager[bool]:
        """Wait until nobody else writes; yields whether others have written since this store last looked."""

    def append(self, keys: Keys, sizes: NDArray[np.int64], rows: Tensor, seconds: float) -> None:
        """Keep blocks, given end to end as rows [rows, 2, G, C], that took some seconds to encode; only while `writing`."""

    def seconds(self, places: Places) -> float:
        """Return the seconds that encoding the blocks at some places took."""


OpenStore = Callable[[BlockKind], BlockStore]
"""Opens a store of one kind of blocks; nothing is written yet."""


class NoStore:
    """Keeps nothing: every text is encoded into memory."""

    def __init__(self, kind: BlockKind) -> None:
        """Accept any kind."""

    def find(self, keys: Keys, sizes: NDArray[np.int64]) -> Places:
        """Return `NOWHERE` for every block."""
        return np.full(len(keys), NOWHERE)

    @contextmanager
    def reader(self) -> Iterator[ReadBlock]:
        """Yield what never finds a block."""
        yield lambda _place, _rows: False

    def refresh(self) -> bool:
        """Return False: nobody writes here."""
        return False

    def writing(self) -> AbstractContextManager[bool]:
        """Refuse: what is appended could not be read again."""
        raise NotImplementedError("this store keeps nothing; open one that does before texts are written")

    def append(self, keys: Keys, sizes: NDArray[np.int64], rows: Tensor, seconds: float) -> None:
        """Refuse, as `writing` does."""
        raise NotImplementedError("this store keeps nothing; open one that does before texts are written")

    def seconds(self, places: Places) -> float:
        """Return 0."""
        return 0.0


class ZeroStore(NoStore):
    """Has every text's block, all zeros: computing with them takes the time that it always takes, and nothing is encoded."""

    def find(self, keys: Keys, sizes: NDArray[np.int64]) -> Places:
        """Return one place for all."""
        return np.zeros(len(keys), dtype=np.int64)

    @contextmanager
    def reader(self) -> Iterator[ReadBlock]:
        """Yield what fills rows with zeros."""
        yield _zero


def keys_of(texts: Sequence[bytes]) -> Keys:
    """Return the keys of texts, each given as the bytes of its token ids (int32)."""
    return np.array([hashlib.blake2b(text, digest_size=KEY_BYTES).digest() for text in texts], dtype=f"S{KEY_BYTES}")


def _zero(_place: int, rows: Tensor) -> bool:
    rows.zero_()
    return True
