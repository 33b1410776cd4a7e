"""One file of encoded texts: written whole, opened for as long as blocks are read, each block with a checksum.

A safetensors file with the tensors `rows` (blocks end to end, [rows, 2, G, C]), with int8 also `scales` ([rows, 2, G]), and the index:
`keys` (uint8 [blocks, 16]), `ends` (int64 [blocks], row after each block's last) and `checksums` (int64 [blocks], CRC-32).

A file that cannot be opened or read (`OSError`: no descriptor, memory or right left, a failing disk) may be whole. Only bytes that were
read, and are not what they should be, are damage.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from laserrec.system.files import write_tensors
from laserrec.text_cache.encoder import SCALE, Numbers, pack, unpack
from laserrec.text_cache.store import KEY_BYTES, BlockKind

INDEX = {"keys": f"S{KEY_BYTES}", "ends": "<i8", "checksums": "<i8"}
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Stamp:
    """What a file on disk is known by: another one in its place, or one that was written to, has another.

    Attributes:
        inode: the file's number in its file system.
        size: bytes.
        changed: when it was last written to, in nanoseconds.
    """

    inode: int
    size: int
    changed: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Read it from a file's status."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Shard:
    """A shard's index, in memory; its blocks stay in the file, of which nothing is held open or mapped.

    Attributes:
        path: the file.
        stamp: of the file whose index this is.
        keys: of each block, [blocks].
        ends: row after each block's last, int64 [blocks].
        checksums: of each block, int64 [blocks].
        seconds: what encoding took.
        spans: of `rows`, and of `scales` where there are any: where it begins in the file, and the bytes of one row.
    """

    path: Path
    stamp: Stamp
    keys: NDArray[np.bytes_]
    ends: NDArray[np.int64]
    checksums: NDArray[np.int64]
    seconds: float
    spans: tuple[tuple[int, int], ...]

    def read(self, file: FileIO | None, block: int, rows: Tensor, *, check: bool) -> bool:
        """Copy a block into rows [n, 2, G, C] of any device.

        Args:
            file: what `opened` gave.
            block: its number.
            rows: where to.
            check: whether to compare the block with its checksum.

        Returns:
            False when it is damaged, or its file gone or changed; rows then hold anything.

        Raises:
            OSError: the file cannot be read.
        """
        direct = len(self.spans) == 1 and rows.device.type == "cpu"
        parts = [rows.view(torch.uint8).view(-1).numpy()] if direct else self._room(block)
        if not self._fetch(file, block, parts, check=check):
            return False
        if not direct:
            stored, *scales = (torch.from_numpy(part).to(rows.device) for part in parts)
            if scales:
                packed = stored.view(torch.int8).view(rows.shape)
                rows.copy_(unpack(packed, scales[0].view(SCALE).view(rows.shape[:-1]), rows.dtype))
            else:
                rows.copy_(stored.view(rows.dtype).view(rows.shape))
        return True

    def intact(self, file: FileIO | None) -> NDArray[np.bool_]:
        """Compare every block with its checksum, bool [blocks]; none is intact where the file is gone or changed; `file` as in `read`."""
        return np.array([self._fetch(file, block, self._room(block), check=True) for block in range(len(self.ends))])

    @contextmanager
    def opened(self) -> Iterator[FileIO | None]:
        """Open the file to read blocks; None where it is gone.

        Raises:
            OSError: it cannot be opened.
        """
        try:
            file = self.path.open("rb", buffering=0)
        except FileNotFoundError:
            yield None
            return
        with file:
            yield file

    def _places(self, block: int) -> list[tuple[int, int]]:
        first, end = int(self.ends[block - 1]) if block else 0, int(self.ends[block])
        return [(base + first * row, base + end * row) for base, row in self.spans]

    def _room(self, block: int) -> list[Bytes]:
        return [np.empty(end - start, dtype=np.uint8) for start, end in self._places(block)]

    def _fetch(self, file: FileIO | None, block: int, parts: Sequence[Bytes], *, check: bool) -> bool:
        """Read a block's parts; return whether they are all there and, if asked, match the checksum."""
        # Another file in its place, or one that was written to, is not what this is the index of.
        if file is None or Stamp.of(os.fstat(file.fileno())) != self.stamp:
            return False
        for (start, _), part in zip(self._places(block), parts, strict=True):
            file.seek(start)
            left = part.data
            while len(left):  # a system may give less than it was asked for; what it cannot read at all it says then
                count = file.readinto(left)
                if not count:
                    return False
                left = left[count:]
        return not check or checksum(*(part.data for part in parts)) == int(self.checksums[block])


def checksum(*parts: memoryview) -> int:
    """Return the CRC-32 of some bytes, one part after the other."""
    found = 0
    for part in parts:
        found = zlib.crc32(part, found)
    return found


def write_shard(
    path: Path, identity: str, keys: NDArray[np.bytes_], sizes: NDArray[np.int64], rows: Tensor, numbers: Numbers, seconds: float
) -> None:
    """Write a shard atomically.

    Args:
        path: the file.
        identity: of the folder it belongs to.
        keys: of its blocks, [blocks].
        sizes: rows of each, int64 [blocks].
        rows: the blocks end to end, [rows, 2, G, C].
        numbers: how they are kept.
        seconds: what encoding them took.
    """
    parts = (rows,) if numbers == "exact" else pack(rows)
    flat = [part.view(-1).view(torch.uint8).numpy() for part in parts]
    ends = np.cumsum(sizes)
    cuts = zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)
    checksums = [
        checksum(*(part[start * len(part) // len(rows) : end * len(part) // len(rows)].data for part in flat)) for start, end in cuts
    ]
    index: list[NDArray[Any]] = [keys.view(np.uint8).reshape(-1, KEY_BYTES), ends, np.array(checksums, dtype=np.int64)]
    tensors = {**dict(zip(("rows", "scales"), parts, strict=False)), **dict(zip(INDEX, map(torch.from_numpy, index), strict=True))}
    write_tensors(path, tensors, {"identity": identity, "seconds": seconds, "index": _index_checksum(index)})


def open_shard(path: Path, identity: str, kind: BlockKind) -> Shard | None:
    """Read the index of a shard of one kind of blocks.

    Returns:
        None when the file is cut short, damaged in its header or index, another's, or gone.

    Raises:
        OSError: the file cannot be opened or read.
    """
    count = int(np.prod(kind.row))
    widths = {"rows": count * kind.dtype.itemsize}
    if kind.numbers == "int8":
        widths = {"rows": count, "scales": count // kind.row[-1] * SCALE.itemsize}
    try:
        with path.open("rb") as file:
            stamp = Stamp.of(os.fstat(file.fileno()))
            spans, state = _read_header(file, stamp.size)
            index = [_read_array(file, *spans[name], form) for name, form in INDEX.items()]
        keys, ends, checksums = index
        fits = set(spans) == {*widths, *INDEX} and len(keys) == len(ends) == len(checksums)
        fits = fits and all(spans[name][1] - spans[name][0] == int(ends[-1]) * width for name, width in widths.items())
        if not fits or state["identity"] != identity or state["index"] != _index_checksum(index):
            return None
        return Shard(
            path, stamp, keys, ends, checksums, float(state["seconds"]), tuple((spans[name][0], width) for name, width in widths.items())
        )
    except FileNotFoundError:
        return None
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError):  # what parsing damaged bytes comes to
        return None


def _read_header(file: BinaryIO, size: int) -> tuple[dict[str, tuple[int, int]], dict[str, Any]]:
    """Read the header of a safetensors file of `size` bytes: where each tensor begins and ends in the file, and the state."""
    length = int.from_bytes(file.read(8), "little")
    if length > size:
        raise ValueError(f"a header of {length} bytes in a file of {size}")
    header = json.loads(file.read(length))
    state = json.loads(header.pop("__metadata__")["state"])
    spans = {}
    for name, about in header.items():
        start, end = (8 + length + offset for offset in about["data_offsets"])
        if not 8 + length <= start <= end <= size:
            raise ValueError(f"{name} from {start} to {end} in a file of {size} bytes")
        spans[name] = start, end
    return spans, state


def _read_array(file: BinaryIO, start: int, end: int, form: str) -> NDArray[Any]:
    file.seek(start)
    return np.frombuffer(file.read(end - start), dtype=form)


def _index_checksum(index: Sequence[NDArray[Any]]) -> int:
    return zlib.crc32(b"".join(array.tobytes() for array in index))
