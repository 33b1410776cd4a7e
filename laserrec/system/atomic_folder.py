"""Folders that this package writes atomically, and that replace nothing but a folder of the same kind.

Knows nothing of what the files hold.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from laserrec.errors import LaserrecError, shown
from laserrec.system.atomic import recover, write_folder


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder.

    Attributes:
        what: what it is called in messages.
        files: names of the files that it may hold.
        mark: the one of them without which a folder is not of this kind, unless it is empty.
        error: what is raised.
    """

    what: str
    files: tuple[str, ...]
    mark: str
    error: type[LaserrecError]

    def place(self, given: object) -> Path:
        """Return where a folder lies that a caller names.

        Raises:
            LaserrecError: of the kind's class; what was given names no place.
        """
        if not isinstance(given, str | os.PathLike) or "\0" in os.fspath(given):
            raise self.error(f"Received {shown(given)} as the folder of a {self.what}; expected is a path, a string or a pathlib.Path.")
        return Path(given)

    def check_place(self, folder: Path) -> None:
        """Refuse a place where something stands that is neither a folder of this kind nor an empty one.

        Raises:
            LaserrecError: of the kind's class; the message says what stands there.
        """
        try:
            self._judge(folder)
        except OSError as error:
            raise self.error(f"Cannot look into {folder}: {error}") from error

    def _judge(self, folder: Path) -> None:
        advice = f"choose another folder for the {self.what}."
        if folder.is_symlink() and not folder.exists():
            raise self.error(f"{folder} is a link to nothing; {advice}")
        if not folder.exists():
            return
        if not folder.is_dir():
            raise self.error(f"{folder} is a file; {advice}")
        found = sorted(folder.iterdir())
        strangers = [path.name for path in found if path.name not in self.files or not path.is_file()]
        if strangers:
            more = ", …" if len(strangers) > 5 else ""
            raise self.error(f"{folder} exists and holds other files ({', '.join(strangers[:5])}{more}); {advice}")
        if found and not (folder / self.mark).is_file():
            names = ", ".join(path.name for path in found)
            raise self.error(f"{folder} exists and is no {self.what}: it holds {names} and no {self.mark}; {advice}")

    def write(self, folder: Path, fill: Callable[[Path], None]) -> None:
        """Write a folder; one that is there is replaced in one step when the new one is complete.

        Args:
            folder: the place; a link to a folder stays, and the folder that it leads to is replaced.
            fill: writes the files, given a path where nothing is.

        Raises:
            LaserrecError: of the kind's class; something else stands there, or the disk refuses.
        """
        self.check_place(folder)
        try:
            write_folder(folder.resolve(), fill)
        except OSError as error:
            raise self.error(f"Cannot write the {self.what} to {folder}: {error}") from error

    def recover(self, folder: Path) -> None:
        """Put a folder back whose replacement was cut off, as `laserrec.system.atomic.recover` does.

        Raises:
            LaserrecError: of the kind's class; the system refuses.
        """
        try:
            recover(folder.resolve())
        except OSError as error:
            raise self.error(f"Cannot put {folder} back, whose replacement was cut off: {error}") from error
