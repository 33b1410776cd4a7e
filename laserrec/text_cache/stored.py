"""List and remove encoded texts in the user's cache folder."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from laserrec.system.atomic import ENDING, discard
from laserrec.system.cache import DAY, texts_folder, vectors_lock

MANIFEST, LOCK = "manifest.json", ".lock"
SHARD = re.compile(r"shard-\d+\.safetensors")
STORE = re.compile(r"[0-9a-f]{32}")
"""Names of the folders of a `DiskStore`, which are digests; its files are named here again because its module loads torch."""
VECTORS = re.compile(r"(?:vectors-)?[0-9a-f]{16,64}\.safetensors")
"""Names of files of vectors, and of encoded texts as older versions kept them."""


@dataclass(frozen=True)
class StoredTexts:
    """Texts encoded for one language model and instruction, or read as one vector each.

    Attributes:
        path: their folder, or the vectors' file.
        bytes: what it takes.
        unused_days: since a run last opened it.
    """

    path: Path
    bytes: int
    unused_days: float


def stored_texts() -> list[StoredTexts]:
    """Return the encoded texts in `texts_folder`, the longest unused first; files of anybody else that lie there are passed over."""
    found = []
    for path in sorted(texts_folder().glob("*")):
        files = _own_files(path)
        if files:
            manifest = path / MANIFEST
            used = (manifest if manifest.is_file() else path).stat().st_mtime
            found.append(StoredTexts(path, sum(file.stat().st_size for file in files if file.is_file()), (time.time() - used) / DAY))
    return sorted(found, key=lambda texts: -texts.unused_days)


def remove_texts(texts: StoredTexts) -> bool:
    """Remove encoded texts, and nothing else that lies beside them; return False, and remove nothing, while a run is adding to them."""
    vectors = texts.path.is_file()  # texts as one vector each
    lock = vectors_lock(texts.path) if vectors else FileLock(texts.path / LOCK)
    try:
        with lock.acquire(blocking=False):
            for path in _own_files(texts.path):
                discard(path)
    except Timeout:
        return False
    if not vectors:
        (texts.path / LOCK).unlink(missing_ok=True)
        with suppress(OSError):  # somebody else's file is in it, so it stays
            texts.path.rmdir()
    return True


def _own_files(path: Path) -> list[Path]:
    """Return the files that make up encoded texts: a file of vectors itself, or what a `DiskStore` writes into its folder."""
    if path.is_symlink():
        return []
    if path.is_file():
        return [path] if VECTORS.fullmatch(path.name) else []
    if not STORE.fullmatch(path.name):
        return []
    return [
        file
        for file in path.iterdir()
        if file.name == MANIFEST or SHARD.fullmatch(file.name) or (file.name.startswith(".") and file.suffix == ENDING)
    ]
