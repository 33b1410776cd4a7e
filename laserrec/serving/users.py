"""What users did: events that are kept, histories, and erasing."""

from __future__ import annotations

import time
from collections.abc import Sequence

from laserrec.serving.conversions import microseconds_of, stored
from laserrec.serving.core import Core, Phases
from laserrec.serving.messages import Erased, EventMessage, Receipt, RefusedEvent, UserHistory, UsersAnswer
from laserrec.serving.store import Event

DAY = 86_400_000_000
"""Microseconds. An event may be that far in the future, for clocks that are wrong and zones that are mixed up."""
LATEST_USERS = 5000
"""Users that a search looks through; the ids of others must be known."""


class Users:
    """Keeps, shows and erases what users did."""

    def __init__(self, core: Core) -> None:
        """Work with a core's store."""
        self._core = core

    async def add_events(self, messages: Sequence[EventMessage], phases: Phases) -> Receipt:
        """Keep events; what was accepted is durable."""
        self._core.limit("the number of events", len(messages), self._core.settings.batch)
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
        new = await self._core.timed(phases, self._core.store.add_events, events) if events else []
        duplicates = [str(event.event_id) for event, is_new in zip(events, new, strict=True) if not is_new]
        unknown = dict.fromkeys(event.item_id for event in events if event.item_id not in self._core.ranking.shelf)
        for result, count in (("accepted", sum(new)), ("duplicate", len(duplicates)), ("refused", len(refused))):
            self._core.metrics.events.labels(result).inc(count)
        return Receipt(accepted=sum(new), duplicates=duplicates, refused=refused, unknown_items=list(unknown))

    async def history(self, user_id: str, limit: int, phases: Phases) -> UserHistory:
        """Return a user's latest events."""
        self._core.limit("limit", limit, self._core.settings.stored_history)
        events = await self._core.timed(phases, self._core.store.history, user_id, limit)
        shelf, counts_as = self._core.ranking.shelf, self._core.settings.counts_as
        return UserHistory(user_id=user_id, events=[stored(one, shelf.get(one.item_id), counts_as(one.kind)) for one in events])

    async def latest(self, query: str, k: int, phases: Phases) -> UsersAnswer:
        """Return users among the latest events whose ids begin with a query, the latest first."""
        self._core.limit("k", k, self._core.settings.list_length)
        users = await self._core.timed(phases, self._core.store.latest_users, LATEST_USERS)
        return UsersAnswer(user_ids=[user for user in users if user.startswith(query)][:k])

    async def erase(self, user_id: str, phases: Phases) -> Erased:
        """Erase a user."""
        return Erased(user_id=user_id, events=await self._core.timed(phases, self._core.store.erase_user, user_id))
