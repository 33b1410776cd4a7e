"""The service without HTTP: its start and end, what it does again and again, and its models. Its parts answer the rest."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import islice

from laserrec.errors import DataError, LaserrecError
from laserrec.recommender import Laser
from laserrec.runs.origin import paired_test, training_popularity
from laserrec.serving.choices import KEPT
from laserrec.serving.core import Core
from laserrec.serving.items import Items
from laserrec.serving.messages import ModelName, ModelsAnswer, NewModel, NewModelAnswer, PairedTest
from laserrec.serving.models import Model, Models
from laserrec.serving.offline import offline_figures
from laserrec.serving.ranking import Question, Ranking
from laserrec.serving.recommending import RECORDS, Recommending
from laserrec.serving.settings import ServingSettings, is_loopback
from laserrec.serving.store import Key, Store
from laserrec.serving.users import Users

WARM_UP = 8
"""Histories that are answered before the service is ready."""
WARM_UP_SECONDS = 3600.0
"""Seconds that one of them may take: texts that no cache holds yet are encoded meanwhile."""
RECORD_SECONDS = 0.2
"""Seconds between two writes of what was recommended: it is written for many answers at once, and none waits for it."""
LOG = logging.getLogger("laserrec.serving")


class Service:
    """Models over one store.

    Attributes:
        core: settings, models, metrics, and what keeps the service from being ready.
        recommending: recommendations, searches, similar items.
        users: events and histories.
        items: items that come, change and go.
        keys: the access keys by id, as the store has them.
        locked: whether a key is needed: there is one, or there was, or others than this machine can reach the service.
    """

    def __init__(self, settings: ServingSettings, store: Store, load: Callable[[str], Laser], models: Sequence[NewModel]) -> None:
        """Load the models; `start` makes the service ready.

        Args:
            settings: how much of everything.
            store: events and items.
            load: loads a model from its source.
            models: those that answer from the beginning.
        """
        self._load, self._embeddings = load, settings.embeddings
        self.core = Core(settings, store, Models(tuple(self._loaded(model) for model in models)))
        self.recommending, self.users, self.items = Recommending(self.core), Users(self.core), Items(self.core)
        self.keys: Mapping[str, Key] = {key.key_id: key for key in store.access_keys()}
        self.locked = bool(self.keys) or not is_loopback(settings.host)
        self._loading = asyncio.Lock()
        self._trained_on: Mapping[str, int] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Become ready, however often the store has to be asked."""
        while self.core.missing:
            try:
                await self._begin()
            except Exception:
                LOG.exception("the start failed; it is tried again in a second")
                await asyncio.sleep(1)

    async def _begin(self) -> None:
        """Follow the store, answer some histories to be warm, and go on following."""
        await self._follow()
        self.core.missing.discard("items")
        await self._count()
        self.core.missing.discard("popularity")
        for model in self.core.models.all:
            await self._warm(model.ranking)
        self.core.missing.discard("warm-up")
        settings = self.core.settings
        self._tasks = [
            asyncio.create_task(_every(settings.poll, self._follow)),
            asyncio.create_task(_every(settings.popularity_seconds, self._count)),
            asyncio.create_task(_every(RECORD_SECONDS, self.recommending.record)),
        ]

    async def _warm(self, ranking: Ranking) -> None:
        """Answer the histories of some users, or, where there is none, of some items."""
        store = self.core.store
        users = await self.core.in_store(store.latest_users, WARM_UP)
        histories = [[event.item_id for event in await self.core.in_store(store.history, user, 50)] for user in users]
        histories = histories or [[item.item_id] for item in islice(ranking.shelf.values(), WARM_UP)]
        for history in histories:
            await self.core.ask([(ranking, Question(tuple(history), 10))], {}, time.monotonic() + WARM_UP_SECONDS)

    async def stop(self) -> None:
        """Answer what was taken, keep what was recommended, and close the store."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.core.finish()
        try:
            await self.recommending.record()
        finally:
            self.core.close()

    async def check(self) -> list[str]:
        """Return what is not ready: what has not been loaded yet, and a store that does not answer."""
        try:
            await asyncio.wait_for(self.core.in_store(self.core.store.access_keys), 5)
        except (LaserrecError, TimeoutError):
            return sorted({*self.core.missing, "store"})
        return sorted(self.core.missing)

    def observe(self) -> None:
        """Bring the gauges up to date."""
        core, metrics = self.core, self.core.metrics
        metrics.waiting.set(core.engine.waiting)
        metrics.waiting_tokens.set(core.engine.waiting_tokens)
        metrics.embeddings.set(sum(model.ranking.embeddings for model in core.models.all))
        metrics.items.set(len(core.ranking.shelf))
        metrics.change.set(core.ranking.followed)
        metrics.masks.set(sum(len(model.ranking.choices) for model in core.models.all))
        metrics.records.set(self.recommending.waiting)
        for name in ("queue_requests", "queue_tokens", "embeddings", "batch_tokens"):
            metrics.bounds.labels(name).set(getattr(core.settings, name))
        metrics.bounds.labels("filters").set(KEPT * len(core.models.all))
        metrics.bounds.labels("records").set(RECORDS)
        if core.settings.text_share is not None:
            metrics.bounds.labels("text_memory_bytes").set(core.settings.text_share * 2**30)

    async def _follow(self) -> None:
        """Follow what any replica changed: items and keys."""
        # Keys first: one that was withdrawn must not be good for as long as a model cannot follow.
        self.keys = {key.key_id: key for key in await self.core.in_store(self.core.store.access_keys)}
        self.locked = self.locked or bool(self.keys)
        await self.items.follow()

    async def _count(self) -> None:
        """Count how popular items are."""
        popularity = await self._popularity()
        for model in self.core.models.all:
            await self.core.in_engine(partial(model.ranking.count, popularity))

    async def _popularity(self) -> Mapping[str, int]:
        """Count the store's events; while there is none, those that the first model was trained on."""
        counts = await self.core.in_store(self.core.store.popularity, self.core.settings.no_interest)
        if not counts and self._trained_on is None:
            try:
                self._trained_on = await asyncio.to_thread(training_popularity, self.core.models.all[0].source)
            except LaserrecError as error:  # the model answers as well without
                LOG.warning("no item counts as popular before the first event: %s", error)
                self._trained_on = {}
        return counts or self._trained_on or {}

    async def list_models(self) -> ModelsAnswer:
        """Return the models, and what followed from the answers of each."""
        return self.core.models.described(await self.core.in_store(self.core.store.attribution, self.core.settings.no_interest))

    async def add_model(self, new: NewModel) -> NewModelAnswer:
        """Load a model while the others answer, bring it up to date and warm it, and let it answer its share.

        The answer tests it against the model of the same name, else the first one, on the cases that both were evaluated on.
        """
        core = self.core
        core.require_ready()
        async with self._loading:
            running = next((model for model in core.models.all if model.name == new.name), core.models.all[0])
            core.models.with_model(Model(new.name, "", new.share, core.ranking, ""))  # refuses shares before anything is loaded
            model = await asyncio.to_thread(self._loaded, new)
            async with self.items.following:
                await self.items.bring_up_to_date(model.ranking)
            await self._warm(model.ranking)
            popularity = await self._popularity()
            async with self.items.following:  # so that no change falls between the last look and the switch
                await self.items.bring_up_to_date(model.ranking)
                await core.in_engine(partial(model.ranking.count, popularity))
                core.models = core.models.with_model(model)
        tests, why_not = await asyncio.to_thread(_tests, new.source, running.source)
        against = ModelName(name=running.name, version=running.version)
        listed = await self.list_models()
        return NewModelAnswer(models=listed.models, against=against, tests=tests, not_compared=why_not)

    def _loaded(self, new: NewModel) -> Model:
        laser = self._load(new.source)
        offline = offline_figures(new.source, laser.provenance.get("fingerprint"))
        return Model(new.name, laser.fingerprint()[:12], new.share, Ranking(laser, self._embeddings), new.source, offline)


def _tests(new: str, running: str) -> tuple[list[PairedTest], str | None]:
    """Return paired tests of two models' sources, or why there are none."""
    try:
        found = paired_test(new, running)
    except DataError as error:
        return [], str(error)
    return [
        PairedTest(metric=metric, exclude_seen=protocol == "filter_seen", **vars(result)) for (protocol, metric), result in found.items()
    ], None


async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do something again and again, whatever became of it before."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except LaserrecError as error:
            LOG.warning("%s", error)
        except Exception:
            LOG.exception("what the service does every %s s failed", seconds)
