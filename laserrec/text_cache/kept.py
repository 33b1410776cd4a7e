"""List and remove encoded texts in the user's cache folder."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from laserrec.system.cache import DAY, texts_folder, vectors_lock


@dataclass(frozen=True)
class KeptTexts:
    """Texts encoded for one language model and instruction, or read as one vector each.

    Attributes:
        path: their folder, or the vectors' file.
        bytes: what it takes.
        unused_days: since a run last opened it.
    """

    path: Path
    bytes: int
    unused_days: float


def kept_texts() -> list[KeptTexts]:
    """Return what is in `texts_folder`, the longest unused first."""
    found = []
    for path in texts_folder().glob("[!.]*"):  # what is being written, and locks, begin with a dot
        manifest = path / "manifest.json"
        used = (manifest if manifest.is_file() else path).stat().st_mtime
        files = [path, *path.glob("**/*")]
        found.append(KeptTexts(path, sum(file.stat().st_size for file in files if file.is_file()), (time.time() - used) / DAY))
    return sorted(found, key=lambda texts: -texts.unused_days)


def remove_texts(texts: KeptTexts) -> bool:
    """Remove encoded texts; return False, and remove nothing, while a run is adding to them."""
    vectors = texts.path.is_file()  # texts as one vector each
    lock = vectors_lock(texts.path) if vectors else FileLock(texts.path / ".lock")
    try:
        with lock.acquire(blocking=False):
            if vectors:
                texts.path.unlink(missing_ok=True)
            else:
                shutil.rmtree(texts.path)
    except Timeout:
        return False
    return True
