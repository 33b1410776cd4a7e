"""One file of encoded texts: written whole, mapped to be read, each block with a checksum.

A safetensors file with the tensors `rows` (blocks end to end, [rows, 2, G, C]), with int8 also `scales` ([rows, 2, G]), and the index:
`keys` (uint8 [blocks, 16]), `ends` (int64 [blocks], row after each block's last) and `checksums` (int64 [blocks], CRC-32).
"""

from __future__ import annotations

import json
import mmap
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from laserrec.checkpoint import read_tensors, write_tensors
from laserrec.errors import CheckpointError
from laserrec.nn.text_blocks import Numbers, pack, unpack

KEY_BYTES = 16
INDEX = ("keys", "ends", "checksums")


@dataclass(frozen=True)
class Shard:
    """An open shard: its index in memory, its blocks mapped.

    Attributes:
        keys: of each block, [blocks].
        ends: row after each block's last, int64 [blocks].
        checksums: of each block, int64 [blocks].
        seconds: what encoding took.
        file: the whole file, mapped.
        spans: of `rows`, and of `scales` where there are any: where it begins in the file, and the bytes of one row.
    """

    keys: NDArray[np.bytes_]
    ends: NDArray[np.int64]
    checksums: NDArray[np.int64]
    seconds: float
    file: mmap.mmap
    spans: tuple[tuple[int, int], ...]

    def intact(self, block: int) -> bool:
        """Compare a block with its checksum."""
        return checksum(*self._parts(block)) == int(self.checksums[block])

    def read(self, block: int, rows: Tensor) -> None:
        """Copy a block into rows [n, 2, G, C] of any device."""
        parts = [np.frombuffer(part, np.uint8) for part in self._parts(block)]
        if len(parts) == 1 and rows.device.type == "cpu":
            rows.view(torch.uint8).view(-1).numpy()[:] = parts[0]
            return
        stored, *scales = (torch.from_numpy(part.copy()).to(rows.device) for part in parts)
        if scales:
            packed = stored.view(torch.int8).view(rows.shape)
            rows.copy_(unpack(packed, scales[0].view(torch.bfloat16).view(rows.shape[:-1]), rows.dtype))
        else:
            rows.copy_(stored.view(rows.dtype).view(rows.shape))

    def forget(self) -> None:
        """Give the memory of mapped pages back; the system's own cache of the file keeps them as long as it likes."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self.file.madvise(mmap.MADV_DONTNEED)

    def _places(self, block: int) -> list[tuple[int, int]]:
        first, end = int(self.ends[block - 1]) if block else 0, int(self.ends[block])
        return [(base + first * row, base + end * row) for base, row in self.spans]

    def _parts(self, block: int) -> list[memoryview]:
        whole = memoryview(self.file)
        return [whole[start:end] for start, end in self._places(block)]


def checksum(*parts: memoryview) -> int:
    """Return the CRC-32 of some bytes, one part after the other."""
    found = 0
    for part in parts:
        found = zlib.crc32(part, found)
    return found


def write_shard(
    path: Path, identity: str, keys: NDArray[np.bytes_], sizes: NDArray[np.int64], rows: Tensor, numbers: Numbers, seconds: float
) -> None:
    """Write a shard, whole or not at all.

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


def open_shard(path: Path, identity: str, row: Sequence[int], dtype: torch.dtype, numbers: Numbers) -> Shard | None:
    """Open a shard whose rows have a shape and a type; None when the file is cut short, damaged in its index, or another's."""
    names = ("rows",) if numbers == "exact" else ("rows", "scales")
    try:
        tensors, state = read_tensors(path)
        index = [tensors[name].numpy().copy() for name in INDEX]
        keys, ends, checksums = index
        shapes = {"rows": (int(ends[-1]), *row), "scales": (int(ends[-1]), *row[:-1])}
        dtypes = {"rows": dtype if numbers == "exact" else torch.int8, "scales": torch.bfloat16}
        fits = set(tensors) == {*names, *INDEX} and all(tensors[n].shape == shapes[n] and tensors[n].dtype == dtypes[n] for n in names)
        if not fits or state["identity"] != identity or state["index"] != _index_checksum(index):
            return None
        rows = {name: tensors[name][0].nbytes for name in names}
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        spans = tuple((8 + length + header[name]["data_offsets"][0], rows[name]) for name in names)
        return Shard(keys.view(f"S{KEY_BYTES}").ravel(), ends, checksums, float(state["seconds"]), mapped, spans)
    except (CheckpointError, OSError, KeyError, IndexError, TypeError, ValueError):
        return None


def _index_checksum(index: Sequence[NDArray[Any]]) -> int:
    return zlib.crc32(b"".join(array.tobytes() for array in index))
