"""Items that come, change and go: kept first, then followed by the models, on every replica by the same path."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial

from laserrec.serving.conversions import LimitError, answered, microseconds_of
from laserrec.serving.core import Core, Phases
from laserrec.serving.messages import ItemAnswer, ItemBody, ItemPatch
from laserrec.serving.ranking import Ranking
from laserrec.serving.store import ItemChange

CHANGES_AT_ONCE = 16
"""Changed items that are read between two passes, so that a large change keeps nobody waiting for long."""


class Items:
    """Shows and changes items.

    Attributes:
        following: held while models are brought up to date, and while one is put in another's place.
    """

    def __init__(self, core: Core) -> None:
        """Work with a core's store and models."""
        self._core = core
        self.following = asyncio.Lock()

    def get(self, item_id: str) -> ItemAnswer:
        """Return an item."""
        return answered(self._core.item(item_id))

    async def put(self, items: Sequence[tuple[str, ItemBody]], phases: Phases) -> list[ItemAnswer]:
        """Add or replace items, all or none."""
        self._core.limit("the number of items", len(items), self._core.settings.batch)
        for _, body in items:
            self._check_attributes(body.attributes)
        if len({item_id for item_id, _ in items}) < len(items):
            raise LimitError("Received an item twice; send each item once.")
        # What is kept is what the model reads, so that no replica meets an item that its model refuses.
        read = await self._core.in_store(self._core.ranking.read, {item_id: body.attributes for item_id, body in items})
        changes = []
        for (item_id, attributes), (_, body) in zip(read.items(), items, strict=True):
            until = 0 if body.available_until is None else microseconds_of(body.available_until)
            changes.append(ItemChange(item_id, attributes, replace=True, hidden=body.hidden, available_until=until))
        return await self._change(changes, phases)

    async def patch(self, item_id: str, patch: ItemPatch, phases: Phases) -> ItemAnswer:
        """Change a part of an item."""
        known = self._core.item(item_id)
        after = {**known.attributes, **patch.attributes}
        self._check_attributes(after)
        ((_, read),) = (await self._core.in_store(self._core.ranking.read, {item_id: after})).items()
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
        return (await self._change([change], phases))[0]

    async def delete(self, item_id: str, phases: Phases) -> ItemAnswer:
        """Delete an item; returns what it was."""
        before = self._core.item(item_id)
        await self._change([ItemChange(item_id, deleted=True)], phases)
        return answered(before)

    def _check_attributes(self, attributes: Mapping[str, str | None]) -> None:
        self._core.limit("the number of attributes", len(attributes), self._core.settings.attributes)
        for name, value in attributes.items():
            self._core.limit(f"the characters of the attribute {name!r}", len(value or ""), self._core.settings.text)

    async def _change(self, changes: Sequence[ItemChange], phases: Phases) -> list[ItemAnswer]:
        """Keep changes, then follow them, so that the next request sees them."""
        self._core.require_ready()
        after = await self._core.timed(phases, self._core.store.change_items, changes)
        begun = time.monotonic()
        await self.follow()
        phases["engine"] = time.monotonic() - begun
        return [answered(item) for item in after]

    async def follow(self) -> None:
        """Bring every model up to what the store holds by now, whichever replica changed it; raises what kept one from it."""
        failed: list[Exception] = []
        async with self.following:
            for model in self._core.models.all:
                try:
                    await self.bring_up_to_date(model.ranking)
                except Exception as error:  # the other models need not wait until this one can
                    failed.append(error)
        if failed:
            raise failed[0]

    async def bring_up_to_date(self, ranking: Ranking) -> None:
        """Bring one model up to what the store holds; call it while `following` is held."""
        more = True
        while more:
            items = await self._core.in_store(self._core.store.items_since, ranking.followed, CHANGES_AT_ONCE)
            if items:
                await self._core.in_engine(partial(ranking.change, items))
            more = len(items) == CHANGES_AT_ONCE
