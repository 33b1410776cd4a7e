"""The service as a process: what it prints, how it ends, and that a kill at any moment loses nothing that was acknowledged."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from postgres import Postgres
from served import LOST, Served

from laserrec.serving.sql_store import SqlStore

SEED = 23
KILLS = 3
"""Of each kind of store; a restart takes a second or two."""
MANY = 100


@pytest.fixture
def serve(model_folder: Path, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """A function that starts a service over a store."""
    started: list[Served] = []

    def start(address: str, **settings: object) -> Served:
        folder = tmp_path / f"served-{len(started)}"
        folder.mkdir()
        started.append(Served(model_folder, address, folder, settings))
        started[-1].start()
        return started[-1]

    yield start
    for served in started:
        if served.process is not None and served.process.is_alive():
            served.kill()


def test_it_says_where_it_listens_and_logs_lines_of_json(serve: Callable[..., Served], tmp_path: Path) -> None:
    served = serve(f"sqlite:///{tmp_path / 'store.db'}")
    status, answer = served.ask("POST", "/v1/recommendations", {"items": ["tent"], "k": 3})
    assert (status, len(answer["items"])) == (200, 3)
    served.kill(signal.SIGTERM)
    assert served.process is not None
    assert served.process.exitcode in {0, -signal.SIGTERM}
    out = (served.folder / "stdout").read_text()
    assert (
        out
        == f"Listening on http://127.0.0.1:{served.port} (this machine only); ready once http://127.0.0.1:{served.port}/readyz says so.\n"
    )
    lines = [json.loads(line) for line in (served.folder / "stderr").read_text().splitlines() if line.startswith("{")]
    assert {line["status"] for line in lines if line.get("route") == "/v1/recommendations"} == {200}


def test_sigterm_answers_what_was_taken(serve: Callable[..., Served], tmp_path: Path) -> None:
    served = serve(f"sqlite:///{tmp_path / 'store.db'}", batch_tokens=1, deadline=60)  # one history a pass
    requests = [{"items": [f"i{place}", "tent", "map"][place % 2 :], "k": 5} for place in range(200)]
    answers: list[tuple[int, int]] = []

    def ask() -> None:
        status, answer = served.ask("POST", "/v1/recommendations/batch", {"requests": requests})
        answers.append((status, len(answer["answers"])))

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    time.sleep(0.1)
    served.kill(signal.SIGTERM)
    for client in clients:
        client.join(20)
    assert answers == [(200, 200)] * 2
    with pytest.raises(OSError, match="refused"):
        served.ask("GET", "/livez")


class Load:
    """Clients that send events and items without a pause, and remember what was acknowledged."""

    def __init__(self, served: Served, clients: int = 3) -> None:
        self.acknowledged: set[str] = set()
        self.items: dict[str, str] = {}
        self.failed = 0
        self._served, self._stop = served, threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(clients)]
        for thread in self._threads:
            thread.start()

    def _send(self, number: int) -> None:
        count = 0
        while not self._stop.is_set():
            count += 1
            ids = [f"{number}-{count}-{place}" for place in range(3)]
            events = [{"user_id": f"user-{number}", "item_id": "tent", "event_id": event_id} for event_id in ids]
            # What is not acknowledged is sent again, as a shop does; the ids keep it from counting twice.
            while not self._try("POST", "/v1/events", {"events": events}, number):
                if self._stop.is_set():
                    return
            self.acknowledged.update(ids)
            if count % 4 == 0:
                item_id, title = f"item-{number}-{count}", f"Thing {count}"
                if self._try("PUT", f"/v1/items/{item_id}", {"attributes": {"title": title}}, number):
                    self.items[item_id] = title
                else:
                    self.items.pop(item_id, None)  # either title may be there

    def _try(self, method: str, path: str, body: object, number: int) -> bool:
        try:
            status, answer = self._served.ask(method, path, body)
        except LOST:
            self.failed += 1
            time.sleep(0.02)
            return False
        assert status in {200, 503}, answer
        if status == 200 and "accepted" in answer:
            assert answer["accepted"] + len(answer["duplicates"]) == 3
        return status == 200

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()


def check(load: Load, address: str) -> None:
    """Every acknowledged event is there, none twice, and so is every acknowledged item."""
    store = SqlStore.open(address)
    counts = Counter(event.event_id for event in store.all_events())
    assert load.acknowledged
    assert load.acknowledged <= counts.keys()
    assert set(counts.values()) == {1}
    assert load.items
    found = {item_id: store.item(item_id) for item_id in load.items}
    assert {item_id: item and item.attributes["title"] for item_id, item in found.items()} == load.items
    store.close()


@pytest.mark.parametrize("kills", [KILLS, pytest.param(MANY, marks=pytest.mark.slow)])
def test_a_kill_of_the_service_loses_nothing_that_was_acknowledged(serve: Callable[..., Served], address: str, kills: int) -> None:
    moments = random.Random(SEED)
    served = serve(address)
    load = Load(served)
    for _ in range(kills):
        time.sleep(moments.uniform(0.05, 0.6))
        served.kill()
        served.start()
    time.sleep(0.3)
    load.stop()
    assert load.failed > 0
    check(load, address)


@pytest.mark.parametrize("kills", [KILLS, pytest.param(MANY, marks=pytest.mark.slow)])
def test_a_crash_of_postgresql_loses_nothing_that_was_acknowledged(serve: Callable[..., Served], kills: int) -> None:
    server = Postgres.found()
    if server is None:
        pytest.skip("no PostgreSQL below /usr/lib/postgresql and none on the PATH; apt-get install postgresql")
    server.start()
    try:
        address = server.new_database()
        moments = random.Random(SEED)
        load = Load(serve(address))
        for _ in range(kills):
            time.sleep(moments.uniform(0.05, 0.6))
            server.kill()
            server.start()
        time.sleep(0.5)
        load.stop()
        check(load, address)
    finally:
        server.remove()
