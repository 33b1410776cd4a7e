"""A lock that belongs to one process."""

from __future__ import annotations

import os
from threading import RLock
from types import TracebackType

from laserrec.errors import ForkedProcessError


class ProcessLock:
    """A lock that several threads of the process that made it may take, each any number of times.

    A fork copies neither the threads that compute nor those that hold the lock, so a fork that waited for either would wait for ever.
    """

    def __init__(self) -> None:
        """Make it for this process."""
        self._lock, self._process = RLock(), os.getpid()

    def __enter__(self) -> None:
        """Wait for the lock.

        Raises:
            ForkedProcessError: this process is a fork of the one that made the lock.
        """
        if os.getpid() != self._process:
            raise ForkedProcessError(
                f"This model was loaded in process {self._process} and is asked in its fork {os.getpid()}, which has none of its threads. "
                "Load the model in each worker, or start workers that do not fork: multiprocessing.get_context('spawn'), "
                "gunicorn without --preload."
            )
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lock.release()
