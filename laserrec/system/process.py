"""The process that something was made in, and its forks."""

from __future__ import annotations

import os

from laserrec.errors import ForkedProcessError


class OwnProcess:
    """Remembers the process that made it.

    A fork copies none of the threads that compute, so one that asked them would wait for ever.
    """

    def __init__(self) -> None:
        """Remember this process."""
        self._process = os.getpid()

    def require(self) -> None:
        """Refuse a fork of the remembered process.

        Raises:
            ForkedProcessError: this process is one.
        """
        if os.getpid() != self._process:
            raise ForkedProcessError(
                f"This model was loaded in process {self._process} and is asked in its fork {os.getpid()}, which has none of its threads. "
                "Load the model in each worker, or start workers that do not fork: multiprocessing.get_context('spawn'), "
                "gunicorn without preloading."
            )
