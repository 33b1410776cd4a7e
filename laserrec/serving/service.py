"""What can be asked of the service, without HTTP: recommendations, events, users, items and models, over one store.

The event loop runs these methods and never computes: the model works in the engine's thread, the store in threads of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import TypeVar
from uuid import uuid4

from laserrec.errors import DeadlineError, LaserrecError
from laserrec.laser.item_map import ItemMap
from laserrec.recommender import Laser
from laserrec.serving.conversions import LimitError, answered, condition_of, microseconds_of, picked, read_page, stored, write_page
from laserrec.serving.engine import Engine, Timed
from laserrec.serving.messages import (
    Erased,
    EventMessage,
    ItemAnswer,
    ItemBody,
    ItemPatch,
    ModelName,
    ModelsAnswer,
    NewModel,
    Receipt,
    RecommendationAnswer,
    RecommendationRequest,
    RefusedEvent,
    SimilarAnswer,
    SimilarItem,
    UserHistory,
    UsersAnswer,
)
from laserrec.serving.metrics import Metrics
from laserrec.serving.models import Model, Models, answer_together
from laserrec.serving.offline import offline_figures
from laserrec.serving.ranking import Answer, Question, Ranking, title_of
from laserrec.serving.settings import ServingSettings, is_loopback
from laserrec.serving.store import Event, Item, ItemChange, Key, Shown, Store

T = TypeVar("T")
Phases = dict[str, float]
"""Seconds of a request by phase: queue, engine, store."""

DAY = 86_400_000_000
"""Microseconds. An event may be that far in the future, for clocks that are wrong and zones that are mixed up."""
CHANGES_AT_ONCE = 16
"""Changed items that are read between two passes, so that a large change keeps nobody waiting for long."""
WARM_UP = 8
"""Histories that are answered before the service is ready."""
WARM_UP_SECONDS = 3600.0
"""Seconds that one of them may take: texts that no cache holds yet are encoded meanwhile."""
RECORD_SECONDS = 0.2
"""Seconds between two writes of what was recommended: it is written for many answers at once, and none waits for it."""
LATEST_USERS = 5000
"""Users that a search looks through; the ids of others must be known."""
RECORDS = 10_000
"""Answers that may wait to be written."""
LOG = logging.getLogger("laserrec.serving")


class NotFoundError(LaserrecError):
    """There is no such thing."""


class NotReadyError(LaserrecError):
    """The service has only just started."""


class Service:
    """Models over one store.

    Attributes:
        settings: how much of everything.
        models: which model answers whom; replaced as a whole.
        metrics: what it counts.
        missing: what keeps it from being ready.
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
        self.settings, self.metrics, self._store, self._load = settings, Metrics(), store, load
        self.missing = {"items", "popularity", "warm-up"}
        self.keys: Mapping[str, Key] = {key.key_id: key for key in store.access_keys()}
        self.locked = bool(self.keys) or not is_loopback(settings.host)
        self.models = Models(tuple(self._loaded(model) for model in models))
        self._engine: Engine[tuple[Ranking, Question], Answer] = Engine(
            answer_together,
            lambda asked: asked[0].cost(asked[1]),
            batch_tokens=settings.batch_tokens,
            queue_requests=settings.queue_requests,
            queue_tokens=settings.queue_tokens,
            on_pass=lambda count, _: self.metrics.passes.observe(count),
        )
        self._threads = ThreadPoolExecutor(settings.store_threads, thread_name_prefix="laserrec-store")
        self._following = asyncio.Lock()
        self._recording = asyncio.Lock()
        self._loading = asyncio.Lock()
        self._records: list[Shown] = []
        self._tasks: list[asyncio.Task[None]] = []

    # Life

    async def start(self) -> None:
        """Become ready, however often the store has to be asked."""
        while self.missing:
            try:
                await self._begin()
            except Exception:
                LOG.exception("the start failed; it is tried again in a second")
                await asyncio.sleep(1)

    async def _begin(self) -> None:
        """Follow the store, answer some histories to be warm, and go on following."""
        await self._follow()
        self.missing.discard("items")
        await self._count()
        self.missing.discard("popularity")
        for model in self.models.all:
            await self._warm(model.ranking)
        self.missing.discard("warm-up")
        self._tasks = [
            asyncio.create_task(self._every(self.settings.poll, self._follow)),
            asyncio.create_task(self._every(self.settings.popularity_seconds, self._count)),
            asyncio.create_task(self._every(RECORD_SECONDS, self._record)),
        ]

    async def _warm(self, ranking: Ranking) -> None:
        """Answer the histories of some users, or, where there is none, of some items."""
        users = await self._in_store(self._store.latest_users, WARM_UP)
        histories = [[event.item_id for event in await self._in_store(self._store.history, user, 50)] for user in users]
        histories = histories or [[item.item_id] for item in islice(ranking.shelf.values(), WARM_UP)]
        for history in histories:
            await self._ask([(ranking, Question(tuple(history), 10))], {}, time.monotonic() + WARM_UP_SECONDS)

    async def stop(self) -> None:
        """Answer what was taken, keep what was recommended, and close the store."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._engine.close)
        try:
            await self._record()
        finally:
            self._threads.shutdown()
            self._store.close()

    async def check(self) -> list[str]:
        """Return what is not ready: what has not been loaded yet, and a store that does not answer."""
        try:
            await asyncio.wait_for(self._in_store(self._store.access_keys), 5)
        except (LaserrecError, TimeoutError):
            return sorted({*self.missing, "store"})
        return sorted(self.missing)

    def observe(self) -> None:
        """Bring the gauges up to date."""
        metrics, settings = self.metrics, self.settings
        metrics.waiting.set(self._engine.waiting)
        metrics.waiting_tokens.set(self._engine.waiting_tokens)
        metrics.embeddings.set(sum(model.ranking.embeddings for model in self.models.all))
        metrics.items.set(len(self._ranking.shelf))
        metrics.change.set(self._ranking.followed)
        for name in ("queue_requests", "queue_tokens", "embeddings", "batch_tokens"):
            metrics.bounds.labels(name).set(getattr(settings, name))

    @property
    def _ranking(self) -> Ranking:
        """The first model's items, by which questions that are about no user are answered."""
        return self.models.all[0].ranking

    # Models

    async def list_models(self) -> ModelsAnswer:
        """Return the models, and what followed from the answers of each."""
        return self.models.described(await self._in_store(self._store.attribution, [*self.settings.not_interest, *self.settings.dislike]))

    async def add_model(self, new: NewModel) -> ModelsAnswer:
        """Load a model while the others answer, bring it up to date and warm it, and let it answer its share."""
        self._require_ready()
        async with self._loading:
            self.models.with_model(Model(new.name, "", new.share, self._ranking))  # refuses shares before anything is loaded
            model = await asyncio.to_thread(self._loaded, new)
            async with self._following:
                await self._bring_up_to_date(model.ranking)
            await self._warm(model.ranking)
            popularity = await self._popularity()
            async with self._following:  # so that no change falls between the last look and the switch
                await self._bring_up_to_date(model.ranking)
                await asyncio.wrap_future(self._engine.run(lambda: model.ranking.count(popularity)))
                self.models = self.models.with_model(model)
        return await self.list_models()

    def _loaded(self, new: NewModel) -> Model:
        laser = self._load(new.source)
        offline = offline_figures(new.source, laser.provenance.get("fingerprint"))
        return Model(new.name, laser.fingerprint()[:12], new.share, Ranking(laser, self.settings.embeddings), offline)

    # Recommendations

    async def recommend(self, requests: Sequence[RecommendationRequest], phases: Phases) -> list[RecommendationAnswer]:
        """Answer requests, which wait as one call."""
        self._require_ready()
        self._limit("the number of requests", len(requests), self.settings.batch)
        deadline = time.monotonic() + self.settings.deadline
        asked, shown = [], []
        for place, request in enumerate(requests):
            self._check(request, f"requests[{place}]." if len(requests) > 1 else "")
            before = read_page(request.page)
            self._limit("the number of items on earlier pages", len(before), self.settings.history)
            question = await self._question(request, before, phases)
            # A session has no user; its first item stays the same while it goes on.
            user = request.user_id or next(iter(question.history), "")
            asked.append((self.models.of(user) if request.model is None else self.models.named(request.model), question))
            shown.append(before)
        answers = await self._ask([(model.ranking, question) for model, question in asked], phases, deadline)
        together = zip(requests, asked, answers, shown, strict=True)
        return [self._answer(*one, answer, before, record=not request.preview) for request, one, answer, before in together]

    async def search(self, query: str, by: str, k: int, phases: Phases) -> list[ItemAnswer]:
        """Find items by words of their titles, or by what the model recommends after the words as a text."""
        self._limit("query", len(query), self.settings.text)
        self._limit("k", k, self.settings.list_length)
        if by == "meaning":
            question = Question((query,), k, texts=True)
            (answer,) = await self._ask([(self._ranking, question)], phases, time.monotonic() + self.settings.deadline)
            return [answered(pick.item) for pick in answer.picks]
        return [answered(item) for item in await asyncio.wrap_future(self._engine.run(lambda: self._ranking.titled(query, k)))]

    async def similar(self, item_id: str, k: int, phases: Phases) -> SimilarAnswer:
        """Return the items most similar to one."""
        self._limit("k", k, self.settings.list_length)
        self._known(item_id)
        begun = time.monotonic()
        found = await asyncio.wrap_future(self._engine.run(lambda: self._ranking.similar(item_id, k)))
        phases["engine"] = time.monotonic() - begun
        return SimilarAnswer(
            items=[
                SimilarItem(item_id=item.item_id, title=title_of(item), attributes=dict(item.attributes), score=score)
                for item, score in found
            ]
        )

    async def item_map(self, model: str | None) -> ItemMap:
        """Return the items in the plane, as a model compares them; the first model when none is named."""
        self._require_ready()
        ranking = self._ranking if model is None else self.models.named(model).ranking
        return await asyncio.wrap_future(self._engine.run(ranking.item_map))

    def _require_ready(self) -> None:
        if self.missing:
            raise NotReadyError(f"The service is starting; not ready: {', '.join(sorted(self.missing))}.")

    def _check(self, request: RecommendationRequest, where: str) -> None:
        settings = self.settings
        self._limit(f"{where}k", request.k, settings.list_length)
        for name in ("items", "texts", "only", "without"):
            self._limit(f"the length of {where}{name}", len(getattr(request, name) or ()), settings.history)
        self._limit(f"the length of {where}filter", len(request.filter), settings.attributes)
        for attribute, requirement in request.filter.items():
            values = len(requirement.any_of or ()) + len(requirement.none_of)
            self._limit(f"the number of values of {where}filter.{attribute}", values, settings.history)
        for text in request.texts or ():
            self._limit(f"the characters of a text in {where}texts", len(text), settings.text)

    def _limit(self, name: str, received: int, allowed: int) -> None:
        if received > allowed:
            raise LimitError(f"Received {name} = {received}; at most {allowed} are allowed.")

    async def _question(self, request: RecommendationRequest, before: Sequence[str], phases: Phases) -> Question:
        history, without = request.items or [], {*request.without, *before}
        if request.user_id is not None:
            events = await self._timed("store", phases, self._store.history, request.user_id, self.settings.stored_history)
            ignored = {*self.settings.not_interest, *self.settings.dislike}
            history = [event.item_id for event in events if event.kind not in ignored]
            without |= {event.item_id for event in events if event.kind in self.settings.dislike}
        if request.explain:
            self._limit("the number of different items of an explained history", len(set(history)), self.settings.explained_history)
        return Question(
            tuple(request.texts if request.texts is not None else history),
            request.k,
            texts=request.texts is not None,
            exclude_seen=request.exclude_seen,
            only=None if request.only is None else frozenset(request.only),
            without=frozenset(without),
            conditions=tuple(condition_of(name, requirement) for name, requirement in sorted(request.filter.items())),
            explain=request.explain,
            collaborative_prefix=request.collaborative_prefix,
        )

    def _answer(self, model: Model, question: Question, answer: Answer, before: Sequence[str], *, record: bool) -> RecommendationAnswer:
        recommendation_id = uuid4().hex
        ids = [pick.item.item_id for pick in answer.picks]
        if record:
            self._record_later(Shown(recommendation_id, model.full_name, time.time_ns() // 1000, ids), answer)
        more = len(ids) == question.k and len(before) + len(ids) < self.settings.history
        return RecommendationAnswer(
            recommendation_id=recommendation_id,
            model=ModelName(name=model.name, version=model.version),
            items=[picked(pick) for pick in answer.picks],
            unknown_items=answer.unknown,
            next_page=write_page([*before, *ids]) if more else None,
        )

    def _record_later(self, shown: Shown, answer: Answer) -> None:
        for pick in answer.picks:
            self.metrics.reasons.labels(pick.reason).inc()
        if answer.expert is not None:
            self.metrics.experts.labels(str(answer.expert)).inc()
        if len(self._records) < RECORDS:
            self._records.append(shown)
        else:
            self.metrics.unrecorded.inc()

    async def _ask(self, questions: Sequence[tuple[Ranking, Question]], phases: Phases, deadline: float) -> list[Answer]:
        """Let the engine answer questions before a deadline."""
        futures: list[Future[Timed[Answer]]] = self._engine.submit(questions, deadline)
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

    # Events and users

    async def add_events(self, messages: Sequence[EventMessage], phases: Phases) -> Receipt:
        """Keep events; what was accepted is durable."""
        self._limit("the number of events", len(messages), self.settings.batch)
        now = time.time_ns() // 1000
        refused, events = [], []
        for place, message in enumerate(messages):
            moment = now if message.time is None else microseconds_of(message.time)
            if not 0 <= moment <= now + DAY:
                reason = f"its time is {message.time}; allowed is from 1970 to a day from now"
                refused.append(RefusedEvent(place=place, reason=reason))
                continue
            own = (message.event_id, message.recommendation_id)
            events.append(Event(message.user_id, message.item_id, message.kind, moment, *own))
        new = await self._timed("store", phases, self._store.add_events, events) if events else []
        duplicates = [str(event.event_id) for event, is_new in zip(events, new, strict=True) if not is_new]
        unknown = dict.fromkeys(event.item_id for event in events if event.item_id not in self._ranking.shelf)
        for result, count in (("accepted", sum(new)), ("duplicate", len(duplicates)), ("refused", len(refused))):
            self.metrics.events.labels(result).inc(count)
        return Receipt(accepted=sum(new), duplicates=duplicates, refused=refused, unknown_items=list(unknown))

    async def history(self, user_id: str, limit: int, phases: Phases) -> UserHistory:
        """Return a user's latest events."""
        self._limit("limit", limit, self.settings.stored_history)
        events = await self._timed("store", phases, self._store.history, user_id, limit)
        shelf, counts_as = self._ranking.shelf, self.settings.counts_as
        return UserHistory(user_id=user_id, events=[stored(one, shelf.get(one.item_id), counts_as(one.kind)) for one in events])

    async def latest_users(self, query: str, k: int, phases: Phases) -> UsersAnswer:
        """Return users among the latest events whose ids begin with a query, the latest first."""
        self._limit("k", k, self.settings.list_length)
        users = await self._timed("store", phases, self._store.latest_users, LATEST_USERS)
        return UsersAnswer(user_ids=[user for user in users if user.startswith(query)][:k])

    async def erase(self, user_id: str, phases: Phases) -> Erased:
        """Erase a user."""
        return Erased(user_id=user_id, events=await self._timed("store", phases, self._store.erase_user, user_id))

    # Items

    def item(self, item_id: str) -> ItemAnswer:
        """Return an item."""
        return answered(self._known(item_id))

    async def put_items(self, items: Sequence[tuple[str, ItemBody]], phases: Phases) -> list[ItemAnswer]:
        """Add or replace items, all or none."""
        self._limit("the number of items", len(items), self.settings.batch)
        for _, body in items:
            self._check_attributes(body.attributes)
        if len({item_id for item_id, _ in items}) < len(items):
            raise LimitError("Received an item twice; send each item once.")
        # What is kept is what the model reads, so that no replica meets an item that its model refuses.
        read = await self._in_store(self._ranking.read, {item_id: body.attributes for item_id, body in items})
        changes = []
        for (item_id, attributes), (_, body) in zip(read.items(), items, strict=True):
            until = 0 if body.available_until is None else microseconds_of(body.available_until)
            changes.append(ItemChange(item_id, attributes, replace=True, hidden=body.hidden, available_until=until))
        return await self._change_items(changes, phases)

    async def patch_item(self, item_id: str, patch: ItemPatch, phases: Phases) -> ItemAnswer:
        """Change a part of an item."""
        known = self._known(item_id)
        after = {**known.attributes, **patch.attributes}
        self._check_attributes(after)
        ((_, read),) = (await self._in_store(self._ranking.read, {item_id: after})).items()
        names = known.attributes.keys() | read.keys()
        changed = {name: read.get(name) for name in sorted(names) if read.get(name) != known.attributes.get(name)}
        until = 0 if patch.available_until is None else microseconds_of(patch.available_until)
        change = ItemChange(
            item_id,
            changed,
            hidden=patch.hidden if "hidden" in patch.model_fields_set else None,
            available_until=until if "available_until" in patch.model_fields_set else None,
            known=known.attributes,
        )
        return (await self._change_items([change], phases))[0]

    async def delete_item(self, item_id: str, phases: Phases) -> ItemAnswer:
        """Delete an item; returns what it was."""
        before = self._known(item_id)
        await self._change_items([ItemChange(item_id, deleted=True)], phases)
        return answered(before)

    def _known(self, item_id: str) -> Item:
        item = self._ranking.shelf.get(item_id)
        if item is None:
            raise NotFoundError("There is no item of this id.")
        return item

    def _check_attributes(self, attributes: Mapping[str, str | None]) -> None:
        self._limit("the number of attributes", len(attributes), self.settings.attributes)
        for name, value in attributes.items():
            self._limit(f"the characters of the attribute {name!r}", len(value or ""), self.settings.text)

    async def _change_items(self, changes: Sequence[ItemChange], phases: Phases) -> list[ItemAnswer]:
        """Keep changes, then follow them, so that the next request sees them."""
        self._require_ready()
        after = await self._timed("store", phases, self._store.change_items, changes)
        begun = time.monotonic()
        await self._follow()
        phases["engine"] = time.monotonic() - begun
        return [answered(item) for item in after]

    async def _follow(self) -> None:
        """Bring the model up to what the store holds by now: items that any replica changed, and keys."""
        async with self._following:
            for model in self.models.all:
                await self._bring_up_to_date(model.ranking)
        self.keys = {key.key_id: key for key in await self._in_store(self._store.access_keys)}
        self.locked = self.locked or bool(self.keys)

    async def _bring_up_to_date(self, ranking: Ranking) -> None:
        while items := await self._in_store(self._store.items_since, ranking.followed, CHANGES_AT_ONCE):
            await asyncio.wrap_future(self._engine.run(partial(ranking.change, items)))

    async def _popularity(self) -> dict[str, int]:
        return await self._in_store(self._store.popularity, [*self.settings.not_interest, *self.settings.dislike])

    async def _count(self) -> None:
        popularity = await self._popularity()
        for model in self.models.all:
            await asyncio.wrap_future(self._engine.run(partial(model.ranking.count, popularity)))

    async def _record(self) -> None:
        """Keep what was recommended since the last call."""
        async with self._recording:
            records, self._records = self._records, []
            try:
                await self._in_store(self._store.add_recommendations, records)
            except LaserrecError:
                self._records = [*records, *self._records][:RECORDS]  # for the next time
                raise

    # Threads

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        """Do something again and again, whatever became of it before."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
            except LaserrecError as error:
                LOG.warning("%s", error)
            except Exception:
                LOG.exception("what the service does every %s s failed", seconds)

    async def _in_store(self, call: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    async def _timed(self, phase: str, phases: Phases, call: Callable[..., T], *arguments: object) -> T:
        begun = time.monotonic()
        try:
            return await self._in_store(call, *arguments)
        finally:
            phases[phase] = phases.get(phase, 0.0) + time.monotonic() - begun
