"""An open loop over HTTP: requests leave at a constant rate whatever the answers do, and each is timed from when it was due.

A closed loop waits for answers before it asks again, so it hardly notices a service that stands still. The client has no queue: every
request that is under way has a connection.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

LATE = 60.0
"""Seconds after which a request is given up."""


@dataclass(frozen=True)
class Reply:
    """What came back: the status, 0 where the connection broke, and the answer's JSON."""

    status: int
    body: Any


class Client:
    """Sends JSON to one address of this machine, over connections that are kept open."""

    def __init__(self, port: int) -> None:
        """Talk to a port."""
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, method: str, path: str, body: object = None, late: float = LATE) -> Reply:
        """Send one request, and give it up after some seconds."""
        try:
            return await asyncio.wait_for(self._ask(method, path, json.dumps(body).encode() if body is not None else b""), late)
        except (OSError, EOFError, TimeoutError, ValueError):
            return Reply(0, None)

    async def _ask(self, method: str, path: str, body: bytes) -> Reply:
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            writer.write(head.encode() + body)
            status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            content = await reader.readexactly(int(headers["content-length"]))
        except BaseException:
            writer.close()
            raise
        self._idle.append((reader, writer))
        return Reply(int(status.split()[1]), json.loads(content))

    def close(self) -> None:
        """Close what is open; the next request opens a new connection."""
        while self._idle:
            self._idle.pop()[1].close()


async def at_rate(rate: float, seconds: float, send: Callable[[int, float], Awaitable[None]]) -> None:
    """Call `send` with a number and the moment it is due, `rate` times a second for some seconds, and wait until all are done."""
    begun, under_way = time.monotonic(), set[asyncio.Task[None]]()
    for number in range(round(rate * seconds)):
        due = begun + number / rate
        await asyncio.sleep(max(due - time.monotonic(), 0))
        task = asyncio.ensure_future(send(number, due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
