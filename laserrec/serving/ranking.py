"""One model's answers: who gets which items, why, and what an item's change does to both. One thread at a time calls it.

Knows neither HTTP nor the store.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from laserrec.laser.explanation import Explanation
from laserrec.laser.item_map import ItemMap
from laserrec.recommender import Laser
from laserrec.serving.choices import Choices
from laserrec.serving.shelf import Condition, Shelf
from laserrec.serving.store import Item

Reason = Literal["personal", "new_item", "popular"]
MAPPED = 100_000
"""Items in a map at most: a browser still moves so many points smoothly."""


@dataclass(frozen=True)
class Question:
    """What to recommend, after what.

    Attributes:
        history: item ids, or texts, oldest first.
        k: how many items.
        texts: whether the history holds texts.
        exclude_seen: whether items of the history are left out.
        only: ids to choose from; all when None.
        without: ids that are left out.
        conditions: what items must be like.
        sent: ids that whoever asks named, in order: an answer says which of them are no item. `history` and `without` may hold others.
        explain: whether to say why each item has its score; for histories of ids.
        collaborative_prefix: whether the language model's prefix knows the history; for histories of ids.
    """

    history: tuple[str, ...]
    k: int
    texts: bool = False
    exclude_seen: bool = True
    only: frozenset[str] | None = None
    without: frozenset[str] = frozenset()
    conditions: tuple[Condition, ...] = ()
    sent: tuple[str, ...] = ()
    explain: bool = False
    collaborative_prefix: bool = True


@dataclass(frozen=True)
class Pick:
    """An item of an answer.

    Attributes:
        item: with its attributes.
        score: what it was ranked by; of a popular one its number of events.
        reason: why it is there.
        explanation: why it has its score, where that was asked for.
    """

    item: Item
    score: float
    reason: Reason
    explanation: Explanation | None = None


@dataclass(frozen=True)
class Answer:
    """What is recommended.

    Attributes:
        picks: best first.
        unknown: ids that were sent and are no item, once each.
        expert: which query expert read the history; None where nothing was read, or there is none.
        cached: whether the language model had read the same history before.
    """

    picks: list[Pick]
    unknown: list[str]
    expert: int | None = None
    cached: bool = False


def title_of(item: Item) -> str:
    """Return an item's title, or its id where it has none."""
    return item.attributes.get("title", item.item_id)


class Ranking:
    """Ranks a model's catalogue, keeps what the language model read, and follows changes of items.

    Attributes:
        shelf: the items.
        choices: which of them a list may hold.
        followed: number of the last change of items that it has followed.
    """

    def __init__(self, laser: Laser, embeddings: int) -> None:
        """Serve a model.

        Args:
            laser: the model.
            embeddings: how many histories' states are kept.
        """
        self._laser, self._most = laser, embeddings
        laser.expect_changes()
        self.shelf = Shelf(laser.catalogue)
        self.choices = Choices(self.shelf, lambda: laser.item_ids)
        self.followed = 0
        self._states: OrderedDict[bytes, tuple[NDArray[np.float32], int | None]] = OrderedDict()
        self._popular: dict[str, int] = {}
        self._by_popularity: list[tuple[str, int]] | None = None
        self._map: tuple[tuple[int, int], ItemMap] | None = None
        prompt = laser.config.prompt
        self._read, self._item_tokens = prompt.max_history, prompt.max_item_tokens
        # Leaving out an item that neither model looks at gives nothing to read again.
        self._moving = max(prompt.max_history, laser.config.collaborative.max_history)

    @property
    def embeddings(self) -> int:
        """How many histories' states are kept now."""
        return len(self._states)

    def cost(self, question: Question) -> int:
        """Return the tokens that a question costs at most; 1 where its history was read before."""
        tokens = max(1, min(len(question.history), self._read) * self._item_tokens)
        if question.explain:  # the history once more, without its prefix, and without each item
            return tokens * (min(len(set(question.history)), self._moving) + 3)
        return 1 if not question.texts and self._key(question.history, question.collaborative_prefix) in self._states else tokens

    def count(self, popularity: Mapping[str, int]) -> None:
        """Set how popular items are."""
        self._popular, self._by_popularity = dict(popularity), None

    def read(self, items: Mapping[str, Mapping[str, str | None]]) -> dict[str, dict[str, str]]:
        """Return items as the model reads them, by id; any thread may call it.

        Raises:
            DataError: the model could not read one.
        """
        read = self._laser.read_items([{**attributes, "item_id": item_id} for item_id, attributes in items.items()])
        return {item.pop("item_id"): item for item in read}

    def change(self, items: Sequence[Item]) -> None:
        """Follow changes of items, each of another one; texts that are new are read now. An item without any text counts as deleted.

        Where the model refuses a part of them, the shelf knows what it has followed, and the same call may be tried again.
        """
        kept = [item for item in items if not item.deleted and any(item.attributes.values())]
        gone = [item.item_id for item in items if item not in kept and item.item_id in self.shelf]
        new = [item for item in kept if item.item_id not in self.shelf]
        changed = [item for item in kept if item.item_id in self.shelf and self.shelf[item.item_id].attributes != item.attributes]
        self._by_popularity = None
        if gone:
            self._laser.remove_items(gone)
        for item_id in gone:
            self.shelf.drop(item_id)
        for follow, part in ((self._laser.add_items, new), (self._laser.update_items, changed)):
            if part:
                follow([{**item.attributes, "item_id": item.item_id} for item in part])
            for item in part:
                self.shelf.put(item)
        for item in kept:  # those that are only hidden, or available until another time, too
            self.shelf.put(item)
        self.followed = max([self.followed, *(item.change for item in items)])

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer questions in as few passes over the language model as there are kinds of questions."""
        now = time.time_ns() // 1000
        answers: dict[int, Answer] = {}
        groups: dict[tuple[bool, bool, frozenset[str] | None, tuple[Condition, ...]], list[int]] = {}
        usable: dict[int, list[str]] = {}
        for place, question in enumerate(questions):
            usable[place] = [entry for entry in question.history if question.texts or entry in self.shelf]
            if usable[place]:
                kind = (question.texts, question.exclude_seen, question.only, question.conditions)
                groups.setdefault(kind, []).append(place)
            else:
                answers[place] = self._answer_by_popularity(question, now)
        to_read = [place for place in usable if usable[place] and not questions[place].texts]
        read = self._encode({place: (tuple(usable[place]), questions[place].collaborative_prefix) for place in to_read})
        for (texts, exclude_seen, only, conditions), places in groups.items():
            allowed = self.choices.allowed(only, conditions, now)
            # What a question leaves out for itself is left out of a longer list, so that questions that differ in it share a pass.
            k = max(questions[place].k + len(questions[place].without) for place in places)
            histories = [usable[place] for place in places]
            if texts:
                found = self._laser.recommend_texts(histories, k, only=allowed)
            else:
                states = np.stack([read[place][0] for place in places])
                found = self._laser.recommend(histories, k, exclude_seen=exclude_seen, only=allowed, states=states)
            for place, row in zip(places, found, strict=True):
                question = questions[place]
                kept = [entry for entry in row if entry.item_id not in question.without][: question.k]
                chosen = [entry.item_id for entry in kept]
                explanations = self._laser.explain([usable[place]], [chosen])[0] if question.explain and chosen else [None] * len(chosen)
                picks = [
                    Pick(self.shelf[entry.item_id], entry.score, self._reason(entry.item_id), explanation)
                    for entry, explanation in zip(kept, explanations, strict=True)
                ]
                _, expert, cached = read.get(place, (None, None, False))
                answers[place] = Answer(picks, self._unknown(question), expert, cached)
        return [answers[place] for place in range(len(questions))]

    def similar(self, item_id: str, k: int) -> list[tuple[Item, float]]:
        """Return the items most similar to one, and how similar: the cosine of the two.

        Raises:
            UnknownIdError: there is no such item.
        """
        unavailable = self.shelf.unavailable(time.time_ns() // 1000)
        found = self._laser.similar_items(item_id, k + len(unavailable))
        return [(self.shelf[one.item_id], one.score) for one in found if one.item_id not in unavailable][:k]

    def titled(self, query: str, k: int) -> list[Item]:
        """Return items whose titles hold all words of a query: those that are it, then those that begin with it, shorter ones first."""
        words, whole = query.casefold().split(), query.casefold().strip()
        unavailable = self.shelf.unavailable(time.time_ns() // 1000)
        found = []
        for item in self.shelf.values():
            title = title_of(item).casefold()
            if item.item_id not in unavailable and all(word in title for word in words):
                found.append(((title != whole, not title.startswith(whole), len(title), item.item_id), item))
        return [item for _, item in nsmallest(k, found, key=lambda entry: entry[0])]

    def item_map(self) -> ItemMap:
        """Lay the items out that answers may hold; done once for each state of them."""
        unavailable = self.shelf.unavailable(time.time_ns() // 1000)
        state = (self.followed, len(unavailable))  # between two changes items only pass their time, one after the other
        if self._map is None or self._map[0] != state:
            self._map = state, self._laser.item_map(MAPPED, without=unavailable)
        return self._map[1]

    def _reason(self, item_id: str) -> Reason:
        return "new_item" if self._laser.is_cold(item_id) else "personal"

    def _unknown(self, question: Question) -> list[str]:
        return list(dict.fromkeys(item_id for item_id in question.sent if item_id not in self.shelf))

    def _answer_by_popularity(self, question: Question, now: int) -> Answer:
        if self._by_popularity is None:
            # Of equally popular items the earlier one of the catalogue comes first: sorting keeps their order.
            places = enumerate(self._laser.item_ids)
            self._by_popularity = sorted(((item_id, place) for place, item_id in places), key=lambda one: -self._popular.get(one[0], 0))
        allowed = self.choices.allowed(question.only, question.conditions, now)
        left_out = question.without | (set(question.history) if question.exclude_seen and not question.texts else set())
        candidates = (item_id for item_id, place in self._by_popularity if item_id not in left_out and (allowed is None or allowed[place]))
        chosen = islice(candidates, question.k)
        picks = [Pick(self.shelf[item_id], float(self._popular.get(item_id, 0)), "popular") for item_id in chosen]
        return Answer(picks, self._unknown(question))

    def _encode(self, histories: Mapping[int, tuple[tuple[str, ...], bool]]) -> dict[int, tuple[NDArray[np.float32], int | None, bool]]:
        """Return for each place its history's state, its expert, and whether both were kept; what was not is read in one pass.

        Of each history is given whether the prefix knows it; those whose prefix does not are read in a pass of their own.
        """
        keys = {place: self._key(*history) for place, history in histories.items()}
        kept = {key: self._states[key] for key in keys.values() if key in self._states}
        new = {key: histories[place] for place, key in keys.items() if key not in kept}
        fresh: dict[bytes, tuple[NDArray[np.float32], int | None]] = {}
        for prefix in {known for _, known in new.values()}:
            alike = {key: history for key, (history, known) in new.items() if known == prefix}
            encoded = self._laser.encode_histories(list(alike.values()), collaborative_prefix=prefix)
            experts: Sequence[int | None] = encoded.experts or [None] * len(alike)
            fresh |= {key: (state, expert) for key, state, expert in zip(alike, encoded.states, experts, strict=True)}
        for key in keys.values():
            if key in kept:
                self._states.move_to_end(key)
        # A copy, since a row of an array holds the whole array in memory.
        self._states.update((key, (state.copy(), expert)) for key, (state, expert) in fresh.items())
        while len(self._states) > self._most:
            self._states.popitem(last=False)
        return {place: (*(kept.get(key) or fresh[key]), key in kept) for place, key in keys.items()}

    def _key(self, history: Iterable[str], prefix: bool) -> bytes:
        """Return what a history's state depends on, hashed: its items, the version of each one's text, and whether the prefix knows it."""
        digest = hashlib.blake2b(b"" if prefix else b"without", digest_size=16)
        for item_id in history:
            item = self.shelf.get(item_id)
            if item is not None:
                digest.update(f"{len(item_id)}:{item_id}:{item.change};".encode())
        return digest.digest()
