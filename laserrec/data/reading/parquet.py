"""Parquet files, decoded by a process of their own that survives none of their damage for us, and is kept for all files."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from laserrec.data.options import ReadOptions
from laserrec.data.reading.contents import PlainFile, readable
from laserrec.data.reading.memory import well_formed
from laserrec.data.reading.pages import Pages
from laserrec.data.reading.rows import Rows, named
from laserrec.errors import DataError
from laserrec.system.memory import free_memory

_PROGRAM = Path(__file__).with_name("parquet_worker.py")
_PATIENCE = 60.0  # seconds for any file, and more for larger ones: a healthy one takes a hundredth
_SLOWEST = 2**20  # bytes a second
_ALWAYS_DECODED = 2**30  # bytes of memory; no machine that trains a model is harmed by them


class Parquet:
    """One Parquet file.

    Attributes:
        name: of the file.
        columns: its columns.
        notes: columns that were left out.
    """

    def __init__(self, path: Path, options: ReadOptions) -> None:
        """Read the columns' names.

        Raises:
            DataError: the file cannot be read.
        """
        self.name = path.name
        self._plain = PlainFile(path, options.max_unpacked_gib)
        with readable(path):
            self._size = self._plain.path.stat().st_size
            with self._undamaged():
                self._pages = Pages(self._plain.path)
        self._names: list[str] = self._ask(None, None)["columns"]
        self._places, self.notes = named(self.name, self._names)
        self.columns = list(self._places)

    def read(self, wanted: Sequence[str], numbers: Collection[str] = ()) -> Rows:
        """Return some columns; see `laserrec.data.reading.rows.AnyTable.read`."""
        with tempfile.TemporaryDirectory(prefix="laserrec-", ignore_cleanup_errors=True) as folder:
            out = Path(folder) / "columns.arrow"
            columns = [self._names[self._places[name]] for name in wanted]
            with self._undamaged():
                self._pages.check(columns)
            self._ask(columns, out)
            frame = pl.read_ipc(out)
        frame.columns = list(wanted)
        return well_formed(self.name, frame)

    @contextmanager
    def _undamaged(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise DataError(f"{self.name} cannot be read as Parquet: {error}. Copy or download it again.") from error

    def _ask(self, columns: list[str] | None, out: Path | None) -> dict[str, Any]:
        """Return the decoder's answer; half of the memory is left for what comes after it."""
        memory = max(_ALWAYS_DECODED, free_memory() // 2)
        if self._pages.least_memory(columns or ()) > memory:
            raise DataError(
                f"{self.name}: the columns that are read of its {self._pages.rows:,} rows take more than {memory / 2**30:.1f} GiB, half of "
                "the memory that is free. Use a part of the file, or a machine with more memory."
            )
        request = {"path": str(self._plain.path.absolute()), "columns": columns, "out": str(out), "memory": memory}
        return _WORKER.ask(self.name, self._size, request)


class _Worker:
    """The process that decodes, started when it is first needed and after each file that ended it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0
        self._lock = threading.Lock()

    def ask(self, name: str, size: int, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a request about a file of this name and size.

        Raises:
            DataError: the file cannot be decoded.
        """
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            late = threading.Timer(_PATIENCE + size / _SLOWEST, process.kill)
            late.start()
            try:
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except OSError:
                line = ""
            except BaseException:  # such as Ctrl-C: the answer that is still to come must not be the next file's
                self.stop()
                raise
            finally:
                late.cancel()
            if not line.endswith("\n"):  # nothing, or what a process that was ended had written so far
                self.stop()
                raise DataError(
                    f"{name} cannot be read as Parquet: it is damaged, or decoding it takes more than {request['memory'] / 2**30:.1f} GiB, "
                    "half of the memory that is free. Use a part of the file, or a machine with more memory."
                )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise DataError(f"{name} cannot be read as Parquet: {answer['error']}")
        return answer

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._owner = os.getpid()  # a process that was forked must not speak with its parent's
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(_PROGRAM), str(Path(pl.__file__).parents[1])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=os.path.abspath(os.sep),
                encoding="utf-8",
            )
        return self._process

    def stop(self) -> None:
        """End the process, if it is ours."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.communicate()


_WORKER = _Worker()
atexit.register(_WORKER.stop)
