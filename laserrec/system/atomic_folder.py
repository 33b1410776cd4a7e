"""Folders that this package writes as a whole: made aside, moved into place, and put in the place of nothing but one of their own kind.

Knows nothing of what the files hold.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from laserrec.errors import LaserrecError


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
        """Write a folder aside and move it into place; what stood there is put back if that fails.

        Args:
            folder: the place; a link to a folder stays, and the folder that it leads to is replaced.
            fill: writes the files, given a path where nothing is.

        Raises:
            LaserrecError: of the kind's class; something else stands there, or the disk refuses.
        """
        self.check_place(folder)
        try:
            folder = folder.resolve()
            folder.parent.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            try:
                fill(aside / "new")
                if folder.exists():
                    os.replace(folder, aside / "old")
                os.replace(aside / "new", folder)
            finally:
                # If this fails too, the exception leaves the old folder where its message says, aside.
                if (aside / "old").exists() and not folder.exists():
                    os.replace(aside / "old", folder)
                shutil.rmtree(aside, ignore_errors=True)
        except OSError as error:
            raise self.error(f"Cannot write the {self.what} to {folder}: {error}") from error
