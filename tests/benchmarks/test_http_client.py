"""The open loop sends at its rate whatever the answers do, and a broken connection is an answer of its own."""

from __future__ import annotations

import asyncio
import json
import time

from benchmarks.speed.http_client import Client, Reply, at_rate


def test_slow_answers_do_not_hold_back_the_next_request() -> None:
    dues: list[float] = []

    async def send(number: int, due: float) -> None:
        dues.append(due)
        await asyncio.sleep(0.3)

    begun = time.monotonic()
    asyncio.run(at_rate(50, 0.2, send))
    assert [round(due - dues[0], 6) for due in dues] == [round(number / 50, 6) for number in range(10)]
    assert time.monotonic() - begun < 2  # one after the other they take 3 seconds


def test_what_a_server_answers_and_what_it_does_not() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            body = json.loads(await reader.readexactly(length))
            if body == "end":
                writer.close()
                return
            content = json.dumps({"path": head.split()[1].decode(), "body": body}).encode()
            writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content))

    async def talk() -> list[Reply]:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        client = Client(server.sockets[0].getsockname()[1])
        replies = [await client.ask("POST", "/a", body) for body in ([1], "end", {"b": 2})]
        client.close()
        server.close()
        replies.append(await client.ask("GET", "/", "nobody listens"))
        return replies

    first, broken, again, closed = asyncio.run(talk())
    assert first == Reply(201, {"path": "/a", "body": [1]})
    assert again == Reply(201, {"path": "/a", "body": {"b": 2}})
    assert broken == closed == Reply(0, None)
