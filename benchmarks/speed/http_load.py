"""Load a service over HTTP while it is written to, gets a new model and is killed; beside it the plain route, in the same run.

For each rate an empty database and a fresh service: of 20 arrivals 13 ask after a history in the body, 3 after a user's stored one, 3 send
an event, and 1 puts a new item. At a third of the time the model is switched, at two thirds the service is killed (`kill -9`) and started
again. Afterwards a sample of the answers is held against `Laser.recommend` of the same histories, and every acknowledged event and item is
looked up in the database.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.speed.http_client import Client, Reply, at_rate
from benchmarks.speed.timing import Progress
from laserrec.recommender import Laser
from laserrec.system.provenance import provenance

K = 10
Kind = Literal["history", "user", "event", "item"]
MIX: Sequence[Kind] = ("history",) * 13 + ("user",) * 3 + ("event",) * 3 + ("item",)
NEW = "bench-"
"""How the ids of items begin that the load adds; they may be in answers, and are passed over where these are checked."""
LOADING = 600.0
"""Seconds that a switch may take: a model of 100,000 items is loaded beside the one that answers."""
CLOSE = 1e-3
"""Scores nearer than that may change places: a pass of several histories rounds otherwise than one of a single history."""


@dataclass(frozen=True)
class LoadSetting:
    """What is measured.

    Attributes:
        source: the model's folder.
        store: address of a PostgreSQL database, emptied for each rate; a SQLite file when None.
        rates: arrivals a second, one after the other.
        plain_rates: likewise for the plain route.
        seconds: of each rate.
        limit: milliseconds that the 99th percentile may have.
        checked: answers that are held against the model, of each rate.
        threads: threads that compute, of either route.
        incidents: whether the model is switched and the service killed.
        seed: of everything that is drawn.
    """

    source: str
    rates: Sequence[float]
    plain_rates: Sequence[float]
    seconds: float
    store: str | None = None
    limit: float = 150.0
    checked: int = 100
    threads: int = 1
    incidents: bool = True
    seed: int = 0


@dataclass
class Log:
    """What happened during one rate; times are seconds from its beginning.

    Attributes:
        taken: milliseconds from when a request was due to its answer, by kind; without those that were due while the service was down.
        refused: answers with another status than 200, by status; 0 is a broken connection.
        down: requests that were due between the kill and readiness, and got no answer at once.
        answers: histories in the body, and the ids that came back.
        events: acknowledged event ids.
        items: acknowledged item ids.
        outage: when the service was killed, and when it was ready again.
        switched: seconds that the switch of the model took; None where there was none.
        memory: seconds and bytes of the service's resident memory.
    """

    taken: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in dict.fromkeys(MIX)})
    refused: dict[int, int] = field(default_factory=dict)
    down: int = 0
    answers: list[tuple[list[str], list[str]]] = field(default_factory=list)
    events: set[str] = field(default_factory=set)
    items: set[str] = field(default_factory=set)
    outage: tuple[float, float] | None = None
    switched: float | None = None
    memory: list[tuple[float, int]] = field(default_factory=list)


class Process:
    """A service as a process, started with the same words after a kill."""

    def __init__(self, words: Sequence[str], port: int) -> None:
        """Start it; `ready` waits until it answers."""
        self._words, self.port = [sys.executable, "-m", *words], port
        self.start()

    def start(self) -> None:
        """Start it."""
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
        self._process = subprocess.Popen(self._words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, text=True)
        assert self._process.stderr is not None
        # Its log, a line a request, must not fill the pipe and stop it.
        self._drain = subprocess.Popen(["tail", "-n", "20"], stdin=self._process.stderr, stdout=subprocess.PIPE, text=True)

    async def ready(self, client: Client) -> None:
        """Wait until it is ready."""
        while (await client.ask("GET", "/readyz")).status != 200:
            if self._process.poll() is not None:
                raise RuntimeError(f"{' '.join(self._words)} ended with {self._process.returncode}:\n{self._drain.communicate()[0]}")
            await asyncio.sleep(0.05)

    def end(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it, and wait until it is gone."""
        if self._process.poll() is None:
            self._process.send_signal(how)
        self._process.wait()
        self._drain.communicate()

    @property
    def memory(self) -> int:
        """Bytes of its resident memory; 0 while it is not there."""
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text()
        except OSError:
            return 0
        return next((1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")), 0)


def bench_http(setting: LoadSetting, progress: Progress) -> dict[str, Any]:
    """Measure each rate, check what was answered and kept, and find the highest rate whose 99th percentile keeps the limit.

    Args:
        setting: what is measured.
        progress: called with what is being done.
    """
    laser = Laser.load(setting.source, device="cpu")
    ids, histories = laser.item_ids, _histories(laser.item_ids, laser.config.prompt.max_history, setting.seed)
    del laser  # the machine is the services' while they are measured
    ours: list[tuple[dict[str, Any], Log]] = []
    with tempfile.TemporaryDirectory(prefix="laserrec-bench-") as folder:
        for rate in setting.rates:
            progress(f"{rate:g} requests a second for {setting.seconds:g} s")
            ours.append(_measure(setting, rate, Path(folder), histories))
        plain = []
        for rate in setting.plain_rates:
            progress(f"plain route: {rate:g} requests a second for {setting.seconds:g} s")
            plain.append(_measure_plain(setting, rate, histories))
    progress("checking answers")
    laser = Laser.load(setting.source, device="cpu")
    rows = [row | _checked(laser, log, setting) for row, log in ours]
    best, plain_best = (max((row["rate"] for row in found if _keeps(row, setting.limit)), default=None) for found in (rows, plain))
    return {
        "bench": "http",
        **provenance(["python", "-m", "benchmarks.speed", *sys.argv[1:]]),
        "setting": {**vars(setting), "store": "sqlite" if setting.store is None else "postgresql", "items": len(ids), "k": K},
        "rates": rows,
        "plain": plain,
        "highest_rate": best,
        "highest_plain_rate": plain_best,
        "ratio": best / plain_best if best and plain_best else None,
    }


def _keeps(row: Mapping[str, Any], limit: float) -> bool:
    """Whether a rate kept the limit, without a wrong answer, a lost write or a refusal while the service was up."""
    clean = not any(row.get(name) for name in ("wrong", "lost_events", "lost_items", "refused"))
    return clean and row["recommendations"]["p99"] is not None and row["recommendations"]["p99"] <= limit


def _histories(ids: Sequence[str], longest: int, seed: int) -> Iterator[list[str]]:
    """Yield histories of random items, hardly one of them twice, so that no kept embedding answers for the language model."""
    draw = random.Random(seed)
    pool = ids if len(ids) <= 5000 else draw.sample(list(ids), 5000)  # the texts of more would be encoded for hours
    while True:
        yield draw.sample(list(pool), min(longest, len(pool)))


def _measure(setting: LoadSetting, rate: float, folder: Path, histories: Iterator[list[str]]) -> tuple[dict[str, Any], Log]:
    with free_port() as port, _database(setting, folder) as address:
        words = ["laserrec", "serve", setting.source, "--port", str(port), "--store", address, "--threads", str(setting.threads)]
        process = Process(words, port)
        try:
            log, seconds = asyncio.run(_load(setting, rate, process, histories))
        finally:
            process.end(signal.SIGTERM)
        lost = _lost(address, log)
    asked = [*log.taken["history"], *log.taken["user"]]
    return {
        "rate": rate,
        "seconds": seconds,
        "recommendations": _spread(asked),
        "events": _spread(log.taken["event"]),
        "items": _spread(log.taken["item"]),
        "refused": {str(status): count for status, count in sorted(log.refused.items())},
        "down": log.down,
        "outage": None if log.outage is None else log.outage[1] - log.outage[0],
        "switch": log.switched,
        "acknowledged_events": len(log.events),
        "acknowledged_items": len(log.items),
        **lost,
        "memory": log.memory,
    }, log


async def _load(setting: LoadSetting, rate: float, process: Process, histories: Iterator[list[str]]) -> tuple[Log, float]:
    client, log, draw = Client(process.port), Log(), random.Random(setting.seed)
    await process.ready(client)
    begun = time.monotonic()

    async def send(number: int, due: float) -> None:
        kind = draw.choice(MIX)
        history, user = next(histories), f"user-{draw.randrange(500)}"
        name = f"{NEW}{number}"
        requests: dict[Kind, tuple[str, str, object]] = {
            "history": ("POST", "/v1/recommendations", {"items": history, "k": K}),
            "user": ("POST", "/v1/recommendations", {"user_id": user, "k": K}),
            "event": ("POST", "/v1/events", {"events": [{"user_id": user, "item_id": history[0], "event_id": name}]}),
            "item": ("PUT", f"/v1/items/{name}", {"attributes": {"title": f"New thing {number} {draw.random()}"}}),
        }
        reply = await client.ask(*requests[kind])
        if log.outage is not None and log.outage[0] <= due - begun <= log.outage[1] + 1 and reply.status != 200:
            log.down += 1
        elif reply.status != 200:
            log.refused[reply.status] = log.refused.get(reply.status, 0) + 1
        else:
            if log.outage is None or not log.outage[0] <= due - begun <= log.outage[1]:
                log.taken[kind].append(1000 * (time.monotonic() - due))
            _note(log, kind, name, history, reply)

    async def look() -> None:
        while True:
            log.memory.append((round(time.monotonic() - begun, 1), process.memory))
            await asyncio.sleep(max(setting.seconds / 300, 0.5))

    async def disturb() -> None:
        if not setting.incidents:
            return
        await asyncio.sleep(setting.seconds / 3)
        before = time.monotonic()
        reply = await client.ask("POST", "/v1/models", {"source": str(Path(setting.source).resolve())}, LOADING)
        if reply.status != 200:
            raise RuntimeError(f"The model was not switched: {reply}")
        log.switched = time.monotonic() - before
        await asyncio.sleep(max(begun + setting.seconds * 2 / 3 - time.monotonic(), 0))
        killed = time.monotonic() - begun
        log.outage = (killed - 0.05, float("inf"))
        process.end()
        client.close()
        process.start()
        await process.ready(client)
        log.outage = (killed - 0.05, time.monotonic() - begun)

    looking = asyncio.ensure_future(look())
    await asyncio.gather(at_rate(rate, setting.seconds, send), disturb())
    looking.cancel()
    seconds = time.monotonic() - begun
    client.close()
    return log, seconds


def _note(log: Log, kind: Kind, name: str, history: list[str], reply: Reply) -> None:
    """Remember what an answer promised."""
    if kind == "history":
        log.answers.append((history, [item["item_id"] for item in reply.body["items"]]))
    elif kind == "event" and reply.body["accepted"] + len(reply.body["duplicates"]) == 1:
        log.events.add(name)
    elif kind == "item":
        log.items.add(name)


def _measure_plain(setting: LoadSetting, rate: float, histories: Iterator[list[str]]) -> dict[str, Any]:
    taken: list[float] = []
    refused: dict[int, int] = {}

    async def load(process: Process) -> None:
        client = Client(process.port)
        await process.ready(client)
        await client.ask("POST", "/v1/recommendations", {"items": next(histories), "k": K})

        async def send(number: int, due: float) -> None:
            reply = await client.ask("POST", "/v1/recommendations", {"items": next(histories), "k": K})
            if reply.status == 200:
                taken.append(1000 * (time.monotonic() - due))
            else:
                refused[reply.status] = refused.get(reply.status, 0) + 1

        await at_rate(rate, setting.seconds, send)
        client.close()

    with free_port() as port:
        process = Process(["benchmarks.speed.plain_service", setting.source, str(port), str(setting.threads)], port)
        try:
            asyncio.run(load(process))
        finally:
            process.end()
    return {"rate": rate, "recommendations": _spread(taken), "refused": {str(status): count for status, count in refused.items()}}


def _spread(milliseconds: Sequence[float]) -> dict[str, Any]:
    if not milliseconds:
        return {"count": 0, "p50": None, "p99": None, "max": None}
    p50, p99 = np.percentile(milliseconds, [50, 99]).tolist()
    return {"count": len(milliseconds), "p50": round(p50, 1), "p99": round(p99, 1), "max": round(max(milliseconds), 1)}


def _lost(address: str, log: Log) -> dict[str, int]:
    """Return how many of the acknowledged events and items the database does not hold, and how many events it holds twice."""
    from laserrec.serving.sql_store import SqlStore

    store = SqlStore.open(address)
    kept = [event.event_id for event in store.all_events()]
    found = {"lost_events": len(log.events - set(kept)), "events_twice": len(kept) - len(set(kept))}
    found["lost_items"] = sum(store.item(item_id) is None for item_id in log.items)
    store.close()
    return found


def _checked(laser: Laser, log: Log, setting: LoadSetting) -> dict[str, int]:
    """Hold a sample of the answers against the model: at each place an item whose score is the best that is left, but for rounding."""
    sample = random.Random(setting.seed).sample(log.answers, min(setting.checked, len(log.answers)))
    if not sample:
        return {"checked": 0, "wrong": 0}
    wrong = 0
    for history, answer in sample:
        (expected,) = laser.recommend([history], k=K + 50)
        scores = {item.item_id: item.score for item in expected}
        own = [item_id for item_id in answer if not item_id.startswith(NEW)]
        best = [item.score for item in expected[: len(own)]]
        wide = [CLOSE * max(1, abs(score)) for score in best]
        pairs = zip(own, best, wide, strict=True)
        near = all(abs(scores.get(item_id, float("-inf")) - score) <= most for item_id, score, most in pairs)
        wrong += not near or len(set(answer)) != K
    return {"checked": len(sample), "wrong": wrong}


@contextmanager
def free_port() -> Iterator[int]:
    """Yield a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    yield port


@contextmanager
def _database(setting: LoadSetting, folder: Path) -> Iterator[str]:
    """Yield the address of an empty database."""
    if setting.store is None:
        with tempfile.TemporaryDirectory(dir=folder) as own:
            yield f"sqlite:///{own}/store.db"
        return
    import sqlalchemy as sa

    url = sa.make_url(setting.store).set(drivername="postgresql+psycopg")
    name = f"laserrec_bench_{os.getpid()}"
    administration = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with administration.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield url.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    finally:
        with administration.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        administration.dispose()


def synthetic_model(folder: Path, items: int, layers: int | None, llm: str) -> str:
    """Write an untrained model over many items with a random matrix, since embedding them would take hours; returns its folder."""
    import torch

    from benchmarks.speed.synthetic_shop import Setting, SyntheticShop
    from laserrec.laser.collaborative_view import CollaborativeView
    from laserrec.laser.system import build_laser
    from laserrec.sequential.build import build_recommender

    setting = Setting(llm=llm, layers=layers, catalogue=items, users=1, prompts=1, item_tokens=24)
    world, config = SyntheticShop(setting), setting.config("text_first")
    view = CollaborativeView(build_recommender(config.collaborative, items), torch.ones(items, dtype=torch.bool))
    world.backbone.for_reading()
    system = build_laser(config, world.backbone, world.texts("text_first"), view)
    drawn = torch.Generator().manual_seed(0)
    with torch.no_grad():
        near = system.model.neighbours
        if near is not None:  # so near that a new item becomes the neighbour of few, as in a shop
            near.items.random_(items, generator=drawn)
            near.weights.fill_(0.5)
        system.model.item_states.copy_(torch.randn(system.model.item_states.shape, generator=drawn))
    about = {"dataset": "bench", "fingerprint": "", "made_from": [], "llm_fingerprint": world.backbone.fingerprint()}
    laser = Laser(config, [f"item-{place}" for place in range(items)], system, about)
    laser.save(folder)
    return str(folder)
