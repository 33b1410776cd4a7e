"""Files and folders that are written beside their place and moved there when they are complete.

A process killed at any moment leaves the old content or the new one. What it leaves beside the place is removed by the next writer to the
same place. Knows nothing of what the files hold.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ENDING = ".partial"
"""How the names of work folders end."""
NAME_LETTERS = 40
"""Letters of a place's name in that of its work folder: a file system allows 255 bytes for the whole."""
EXCHANGE = 2
"""The flag for an exchange: RENAME_EXCHANGE of Linux' renameat2 and RENAME_SWAP of macOS' renamex_np."""
CANNOT = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}
"""What a system, a file system or a container without an exchange answers."""


@contextmanager
def work_folder(place: Path) -> Iterator[Path]:
    """Give an empty folder beside a place to write in; it is removed when the block ends.

    What killed processes left of theirs beside the same place is removed first.

    Args:
        place: the file or folder that is about to be written.

    Yields:
        The folder.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    begins = f".{place.name[:NAME_LETTERS]}."
    remove_leftovers(place.parent, begins)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=begins, suffix=ENDING, dir=place.parent))
        with _locked(folder) as held:
            if held is False or not folder.exists():
                continue  # another writer has just removed it as a leftover
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return


def remove_leftovers(folder: Path, begins: str = ".") -> None:
    """Remove the work folders in a folder that killed processes left; those in use stay.

    Args:
        folder: where they lie.
        begins: how their names begin.

    Raises:
        OSError: the folder cannot be listed.
    """
    with os.scandir(folder) as entries:
        left = [entry.path for entry in entries if entry.name.startswith(begins) and entry.name.endswith(ENDING) and entry.is_dir()]
    for path in left:
        with _locked(Path(path)) as unused:
            if unused:
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Give a place to write a file to; at the end it is on the disk and moved to `path`, on any error it is removed.

    A reader, or a process started after this one was killed, sees the old file or the new one, never a part.
    """
    with work_folder(path) as folder:
        partial = folder / path.name
        yield partial
        _flush(partial)
        os.replace(partial, path)


def write_folder(place: Path, fill: Callable[[Path], None]) -> None:
    """Write a folder; one that is there is replaced in one step when the new one is complete.

    Args:
        place: the folder.
        fill: writes the files, given a path where nothing is.

    Raises:
        OSError: the system refuses; the old folder is then where it was.
    """
    recover(place)
    with work_folder(place) as folder:
        new = folder / place.name
        fill(new)
        for path in new.rglob("*"):
            if path.is_file():
                _flush(path)
        if not place.exists():
            os.replace(new, place)
        elif not exchange(new, place):
            _replace_in_two_steps(new, place)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; return False, and change nothing, where the system cannot.

    Raises:
        OSError: it can, and refuses.
    """
    library = ctypes.CDLL(None, use_errno=True)
    here, names = -2 if sys.platform == "darwin" else -100, (os.fsencode(one), os.fsencode(other))  # AT_FDCWD
    if hasattr(library, "renameat2"):
        failed = library.renameat2(here, names[0], here, names[1], EXCHANGE)
    elif hasattr(library, "renamex_np"):
        failed = library.renamex_np(*names, EXCHANGE)
    else:
        return False
    if failed and ctypes.get_errno() not in CANNOT:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))
    return not failed


def recover(place: Path) -> None:
    """Put a folder back whose replacement was cut off between two renames.

    Only systems that cannot exchange two folders in one step ever need it.

    Raises:
        OSError: the system refuses.
    """
    if _old(place).is_dir() and not place.exists():
        with _locked(place.parent, wait=True):  # a writer at work, who would make the second rename, has it
            if _old(place).is_dir() and not place.exists():
                os.replace(_old(place), place)


def _replace_in_two_steps(new: Path, place: Path) -> None:
    """Replace a folder by two renames; `recover` puts back what a process killed between them left."""
    old = _old(place)
    with _locked(place.parent, wait=True):
        shutil.rmtree(old, ignore_errors=True)
        os.replace(place, old)
        try:
            os.replace(new, place)
        except OSError:
            os.replace(old, place)
            raise
    shutil.rmtree(old, ignore_errors=True)


def discard(path: Path) -> None:
    """Remove a file or a folder that a killed process left."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def system_error(error: Exception) -> OSError:
    """Return what a library written in Rust says of the system's refusal as an error of Python's own.

    Args:
        error: what it raised, such as "I/O error: No space left on device (os error 28)".
    """
    number = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError(str(error))


def _old(place: Path) -> Path:
    """Return where the old folder lies between the two renames."""
    return place.with_name(f".{place.name}.replaced")


def _flush(path: Path) -> None:
    with path.open("rb") as written:
        os.fsync(written.fileno())


@contextmanager
def _locked(folder: Path, *, wait: bool = False) -> Iterator[bool | None]:
    """Hold a folder's lock, which the system lifts when this process ends, however it ends.

    Yields:
        True while it is held; False where another process holds it or the folder is gone; None where the file system has no locks.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield False
        return
    try:
        held: bool | None = True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            held = False
        except OSError:
            held = None
        yield held
    finally:
        with suppress(OSError):
            os.close(handle)
