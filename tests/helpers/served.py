"""`laserrec serve` as a process that tests may kill: forked from one that has loaded torch already, so a restart takes a second."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["laserrec.recommender", "laserrec.serving.server", "laserrec.serving.sql_store"])
LOST = (OSError, HTTPException)
"""What a client sees of a server that dies."""


def run(words: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run a command line in a process of its own, with its output in `folder`."""
    for stream, name in ((sys.stdout, "stdout"), (sys.stderr, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), stream.fileno())
    os.environ.update(environment)
    sys.argv = words
    from laserrec.cli import main

    main()


@dataclass
class Served:
    """A service of a model over a store.

    Attributes:
        model: the model's folder.
        address: the store.
        folder: where its output goes.
        settings: what differs from the defaults.
        words: further words of the command line.
        port: where it listens, also after a restart.
    """

    model: Path
    address: str
    folder: Path
    settings: Mapping[str, object] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    port: int = 0
    process: ForkServerProcess | None = None

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        if self.port == 0:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        words = ["laserrec", "serve", str(self.model), "--port", str(self.port), "--store", self.address, "--threads", "1", *self.words]
        words += [word for name, value in self.settings.items() for word in ("--set", f"{name}={value}")]
        cache = {"LASERREC_CACHE": os.environ["LASERREC_CACHE"]}
        self.process = PROCESSES.Process(target=run, args=(words, self.folder, cache), daemon=True)
        self.process.start()
        until = time.monotonic() + 60
        while True:
            try:
                if self.ask("GET", "/readyz")[0] == 200:
                    return
            except LOST:
                pass
            assert time.monotonic() < until, (self.folder / "stderr").read_text()
            assert self.process.is_alive(), (self.folder / "stderr").read_text()
            time.sleep(0.02)

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it, and wait until it is gone."""
        assert self.process is not None
        assert self.process.pid is not None
        os.kill(self.process.pid, how)
        self.process.join(60)
        assert not self.process.is_alive()

    def ask(self, method: str, path: str, body: object = None, timeout: float = 20) -> tuple[int, Any]:
        """Send one request; returns the status and the answer's JSON."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json", "Connection": "close"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()
