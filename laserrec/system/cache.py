"""The user's cache folder, and folders that one process builds while others wait."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock

from laserrec.errors import AssetError

DAY = 86_400
"""Seconds."""


def cache_folder() -> Path:
    """Return the folder that downloads and what is made from them are kept in.

    `LASERREC_CACHE` names it; otherwise it is `laserrec` in the user's cache folder.
    """
    if chosen := os.environ.get("LASERREC_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "laserrec"


def texts_folder() -> Path:
    """Return the folder that encoded texts are kept in."""
    return cache_folder() / "texts"


def vectors_lock(path: Path) -> FileLock:
    """Return what is held while a file of vectors is written or removed."""
    return FileLock(path.with_name(f".{path.name}.lock"))


@contextmanager
def build_once(folder: Path) -> Iterator[Path | None]:
    """Let one process build a folder in the cache while others wait for it.

    Yields:
        An empty folder, which becomes `folder` when the block ends well and goes otherwise; None when `folder` is there already.

    Raises:
        AssetError: the system refuses to write there.
    """
    if folder.is_dir():
        yield None
        return
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with lock:
            if folder.is_dir():
                yield None
                return
            aside = folder.with_name(f".{folder.name}.new")
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            try:
                yield aside
                os.replace(aside, folder)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:  # no right to write there, or no room
        raise AssetError(f"Cannot write to the cache folder {folder.parent}: {error}. Set LASERREC_CACHE to another folder.") from error


@contextmanager
def scratch_folder(what: str) -> Iterator[Path]:
    """Give an empty folder in the cache that goes when the block ends; what killed processes left of theirs a day ago goes, too.

    Args:
        what: it is for; others' folders for something else stay.

    Yields:
        The folder.
    """
    cache_folder().mkdir(parents=True, exist_ok=True)
    for left in cache_folder().glob(f".{what}-*"):
        with suppress(OSError):  # another process removes it, or it is somebody else's
            if time.time() - left.stat().st_mtime > DAY:
                shutil.rmtree(left)
    with TemporaryDirectory(prefix=f".{what}-", dir=cache_folder()) as folder:
        yield Path(folder)
