"""A PostgreSQL server of the tests' own: on a free port, in a folder that goes with them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from uuid import uuid4


@dataclass
class Postgres:
    """A server whose files are below a folder.

    Attributes:
        binaries: where initdb and pg_ctl are.
        folder: its own; not one of pytest's, which are closed to PostgreSQL's user.
        port: where it listens.
    """

    binaries: Path
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="laserrec-postgres-")))
    port: int = field(default_factory=lambda: _free_port())

    @classmethod
    def found(cls) -> Self | None:
        """A server that is not started yet; None where PostgreSQL is not installed."""
        places = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
        on_path = shutil.which("pg_ctl")
        if not places and on_path is None:
            return None
        return cls((places[-1] if places else Path(str(on_path))).parent)

    def start(self) -> None:
        """Make a database cluster the first time, and start the server."""
        data = self.folder / "data"
        if not data.exists():
            data.mkdir()
            if os.geteuid() == 0:  # PostgreSQL refuses to run as root, and its own user must reach its folder
                shutil.chown(data, "postgres")
                self.folder.chmod(0o755)
            self._run("initdb", "-D", str(data), "-A", "trust", "-U", "postgres", "--no-sync", "--locale=C", "--encoding=UTF8")
        options = f"-p {self.port} -k {data} -c listen_addresses=127.0.0.1"
        self._run("pg_ctl", "-D", str(data), "-o", options, "-l", str(data / "log"), "-w", "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; `immediate` as a crash would."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", mode, "-w", "stop")

    def remove(self) -> None:
        """Stop it for good, and remove its files."""
        self.stop()
        shutil.rmtree(self.folder)

    def kill(self) -> None:
        """Kill its main process, as a crash of the machine would, and wait until the others have seen it."""
        pid = int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGKILL)
        until = time.monotonic() + 20
        while _children(self.folder / "data"):
            assert time.monotonic() < until
            time.sleep(0.05)
        # Where nobody collects dead processes, as in some containers, the next start would believe that this one still runs.
        for left in ("postmaster.pid", f".s.PGSQL.{self.port}.lock"):
            (self.folder / "data" / left).unlink()

    def new_database(self) -> str:
        """The address of a new, empty database."""
        import psycopg

        name = f"test_{uuid4().hex}"
        with psycopg.connect(f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def _run(self, program: str, *arguments: str) -> None:
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        subprocess.run([*user, self.binaries / program, *arguments], check=True, stdout=subprocess.DEVNULL, cwd="/")


def _children(data: Path) -> list[str]:
    """Processes whose working directory is the server's: all of PostgreSQL's."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == data and (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(process.name)
        except OSError:  # it has ended meanwhile
            continue
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
