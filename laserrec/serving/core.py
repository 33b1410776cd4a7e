"""What every part of the service works with: settings, counters, the store's threads, the engine, and the models that answer now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from laserrec.errors import DeadlineError, LaserrecError
from laserrec.serving.conversions import LimitError
from laserrec.serving.engine import Engine, Timed
from laserrec.serving.metrics import Metrics
from laserrec.serving.models import Models, answer_together
from laserrec.serving.ranking import Answer, Question, Ranking
from laserrec.serving.settings import ServingSettings
from laserrec.serving.store import Item, Store

T = TypeVar("T")
Phases = dict[str, float]
"""Seconds of a request by phase: queue, engine, store."""


class NotFoundError(LaserrecError):
    """There is no such thing."""


class NotReadyError(LaserrecError):
    """The service has only just started."""


class Core:
    """The shared state of a service. The event loop calls it and never computes: model and store work in threads of their own.

    Attributes:
        settings: how much of everything.
        store: events and items; call it through `in_store`.
        models: which model answers whom; replaced as a whole.
        metrics: what the service counts.
        missing: what keeps it from being ready.
        engine: the thread that computes.
    """

    def __init__(self, settings: ServingSettings, store: Store, models: Models) -> None:
        """Start the threads."""
        self.settings, self.store, self.models, self.metrics = settings, store, models, Metrics()
        self.missing = {"items", "popularity", "warm-up"}
        self.engine: Engine[tuple[Ranking, Question], Answer] = Engine(
            answer_together,
            lambda asked: asked[0].cost(asked[1]),
            batch_tokens=settings.batch_tokens,
            queue_requests=settings.queue_requests,
            queue_tokens=settings.queue_tokens,
            on_pass=lambda count, _: self.metrics.passes.observe(count),
        )
        self._threads = ThreadPoolExecutor(settings.store_threads, thread_name_prefix="laserrec-store")

    @property
    def ranking(self) -> Ranking:
        """The first model's items, by which questions that are about no user are answered."""
        return self.models.all[0].ranking

    def require_ready(self) -> None:
        """Refuse what cannot be answered yet.

        Raises:
            NotReadyError: the service has not finished its start.
        """
        if self.missing:
            raise NotReadyError(f"The service is starting; not ready: {', '.join(sorted(self.missing))}.")

    def item(self, item_id: str) -> Item:
        """Return an item.

        Raises:
            NotFoundError: there is none of this id.
        """
        item = self.ranking.shelf.get(item_id)
        if item is None:
            raise NotFoundError("There is no item of this id.")
        return item

    def limit(self, name: str, received: int, allowed: int) -> None:
        """Refuse too much of something.

        Raises:
            LimitError: more was received than is allowed.
        """
        if received > allowed:
            raise LimitError(f"Received {name} = {received}; at most {allowed} are allowed.")

    async def in_store(self, call: Callable[..., T], *arguments: object) -> T:
        """Call a method of the store in one of its threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    async def timed(self, phases: Phases, call: Callable[..., T], *arguments: object) -> T:
        """Call a method of the store, and add what it took to the request's phases."""
        begun = time.monotonic()
        try:
            return await self.in_store(call, *arguments)
        finally:
            phases["store"] = phases.get("store", 0.0) + time.monotonic() - begun

    async def in_engine(self, job: Callable[[], T]) -> T:
        """Call something in the engine's thread, before its next pass."""
        return await asyncio.wrap_future(self.engine.run(job))

    async def ask(self, questions: Sequence[tuple[Ranking, Question]], phases: Phases, deadline: float) -> list[Answer]:
        """Let the engine answer questions before a deadline, by `time.monotonic`.

        Raises:
            DeadlineError: it passed.
            RefusedError: too much is waiting.
        """
        futures: list[Future[Timed[Answer]]] = self.engine.submit(questions, deadline)
        waiting = asyncio.gather(*map(asyncio.wrap_future, futures))
        try:
            timed = await asyncio.wait_for(waiting, max(deadline - time.monotonic(), 0))
        except TimeoutError as late:
            raise DeadlineError("The request took longer than its deadline.") from late
        phases["queue"] = max((one.queued for one in timed), default=0.0)
        phases["engine"] = max((one.computed for one in timed), default=0.0)
        for one in timed:
            self.metrics.cache.labels("hit" if one.answer.cached else "miss").inc()
        return [one.answer for one in timed]

    async def finish(self) -> None:
        """Let the engine answer what waits, and refuse everything else."""
        await asyncio.to_thread(self.engine.close)

    def close(self) -> None:
        """End the store's threads and close it."""
        self._threads.shutdown()
        self.store.close()
