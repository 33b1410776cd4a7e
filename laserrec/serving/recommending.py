"""Recommendations, searches and similar items: from a request to an answer, and what was recommended kept for attribution."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from uuid import uuid4

from laserrec.errors import LaserrecError
from laserrec.laser.item_map import ItemMap
from laserrec.serving.conversions import answered, condition_of, picked, read_page, write_page
from laserrec.serving.core import Core, Phases
from laserrec.serving.messages import (
    ItemAnswer,
    ModelName,
    RecommendationAnswer,
    RecommendationRequest,
    SimilarAnswer,
    SimilarItem,
)
from laserrec.serving.models import Model
from laserrec.serving.ranking import Answer, Question, title_of
from laserrec.serving.store import Shown

RECORDS = 10_000
"""Answers that may wait to be written."""


class Recommending:
    """Answers requests for items."""

    def __init__(self, core: Core) -> None:
        """Answer with the models of a core."""
        self._core = core
        self._records: list[Shown] = []
        self._recording = asyncio.Lock()

    @property
    def waiting(self) -> int:
        """Answers that wait to be written."""
        return len(self._records)

    async def recommend(self, requests: Sequence[RecommendationRequest], phases: Phases) -> list[RecommendationAnswer]:
        """Answer requests, which wait as one call."""
        self._core.require_ready()
        self._core.limit("the number of requests", len(requests), self._core.settings.batch)
        deadline = time.monotonic() + self._core.settings.deadline
        asked, shown = [], []
        for place, request in enumerate(requests):
            self._check(request, f"requests[{place}]." if len(requests) > 1 else "")
            before = read_page(request.page)
            self._core.limit("the number of items on earlier pages", len(before), self._core.settings.history)
            question = await self._question(request, before, phases)
            # A session has no user; its first item stays the same while it goes on.
            user = request.user_id or next(iter(question.history), "")
            asked.append((self._core.models.of(user) if request.model is None else self._core.models.named(request.model), question))
            shown.append(before)
        answers = await self._core.ask([(model.ranking, question) for model, question in asked], phases, deadline)
        together = zip(requests, asked, answers, shown, strict=True)
        return [self._answer(*one, answer, before, record=not request.preview) for request, one, answer, before in together]

    async def search(self, query: str, by: str, k: int, phases: Phases) -> list[ItemAnswer]:
        """Find items by words of their titles, or by what the model recommends after the words as a text."""
        self._core.limit("query", len(query), self._core.settings.text)
        self._core.limit("k", k, self._core.settings.list_length)
        if by == "meaning":
            question = Question((query,), k, texts=True)
            (answer,) = await self._core.ask([(self._core.ranking, question)], phases, time.monotonic() + self._core.settings.deadline)
            return [answered(pick.item) for pick in answer.picks]
        return [answered(item) for item in await self._core.in_engine(lambda: self._core.ranking.titled(query, k))]

    async def similar(self, item_id: str, k: int, phases: Phases) -> SimilarAnswer:
        """Return the items most similar to one."""
        self._core.limit("k", k, self._core.settings.list_length)
        self._core.item(item_id)
        begun = time.monotonic()
        found = await self._core.in_engine(lambda: self._core.ranking.similar(item_id, k))
        phases["engine"] = time.monotonic() - begun
        return SimilarAnswer(
            items=[
                SimilarItem(item_id=item.item_id, title=title_of(item), attributes=dict(item.attributes), score=score)
                for item, score in found
            ]
        )

    async def item_map(self, model: str | None) -> ItemMap:
        """Return the items in the plane, as a model compares them; the first model when none is named."""
        self._core.require_ready()
        ranking = self._core.ranking if model is None else self._core.models.named(model).ranking
        return await self._core.in_engine(ranking.item_map)

    def _check(self, request: RecommendationRequest, where: str) -> None:
        settings = self._core.settings
        self._core.limit(f"{where}k", request.k, settings.list_length)
        for name in ("items", "texts", "only", "without"):
            self._core.limit(f"the length of {where}{name}", len(getattr(request, name) or ()), settings.history)
        self._core.limit(f"the length of {where}filter", len(request.filter), settings.attributes)
        for attribute, requirement in request.filter.items():
            values = len(requirement.any_of or ()) + len(requirement.none_of)
            self._core.limit(f"the number of values of {where}filter.{attribute}", values, settings.history)
        for text in request.texts or ():
            self._core.limit(f"the characters of a text in {where}texts", len(text), settings.text)

    async def _question(self, request: RecommendationRequest, before: Sequence[str], phases: Phases) -> Question:
        settings, history, without = self._core.settings, request.items or [], {*request.without, *before}
        if request.user_id is not None:
            events = await self._core.timed(phases, self._core.store.history, request.user_id, settings.stored_history)
            history = [event.item_id for event in events if event.kind not in settings.no_interest]
            without |= {event.item_id for event in events if event.kind in settings.dislike}
        if request.explain:
            self._core.limit("the number of different items of an explained history", len(set(history)), settings.explained_history)
        return Question(
            tuple(request.texts if request.texts is not None else history),
            request.k,
            texts=request.texts is not None,
            exclude_seen=request.exclude_seen,
            only=None if request.only is None else frozenset(request.only),
            without=frozenset(without),
            sent=(*(request.items or ()), *(request.only or ()), *request.without),
            conditions=tuple(condition_of(name, requirement) for name, requirement in sorted(request.filter.items())),
            explain=request.explain,
            collaborative_prefix=request.collaborative_prefix,
        )

    def _answer(self, model: Model, question: Question, answer: Answer, before: Sequence[str], *, record: bool) -> RecommendationAnswer:
        recommendation_id = uuid4().hex
        ids = [pick.item.item_id for pick in answer.picks]
        if record:
            self._record_later(Shown(recommendation_id, model.full_name, time.time_ns() // 1000, ids), answer)
        more = len(ids) == question.k and len(before) + len(ids) < self._core.settings.history
        return RecommendationAnswer(
            recommendation_id=recommendation_id,
            model=ModelName(name=model.name, version=model.version),
            items=[picked(pick) for pick in answer.picks],
            unknown_items=answer.unknown,
            next_page=write_page([*before, *ids]) if more else None,
        )

    def _record_later(self, shown: Shown, answer: Answer) -> None:
        for pick in answer.picks:
            self._core.metrics.reasons.labels(pick.reason).inc()
        if answer.expert is not None:
            self._core.metrics.experts.labels(str(answer.expert)).inc()
        if len(self._records) < RECORDS:
            self._records.append(shown)
        else:
            self._core.metrics.unrecorded.inc()

    async def record(self) -> None:
        """Keep what was recommended since the last call."""
        async with self._recording:
            records, self._records = self._records, []
            try:
                await self._core.in_store(self._core.store.add_recommendations, records)
            except LaserrecError:
                self._records = [*records, *self._records][:RECORDS]  # for the next time
                raise
