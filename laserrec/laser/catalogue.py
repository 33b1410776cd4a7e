"""One state of a shop's items, which never changes: whoever holds it sees the same items until it is done.

Adding, changing and removing items makes the next catalogue (`system.LaserSystem`), in which the order among the others is the same.

Dimensions: N items, H width of the LLM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from laserrec.errors import UnknownIdError
from laserrec.laser.collaborative_view import CollaborativeView
from laserrec.laser.item_texts import ItemTexts
from laserrec.laser.lexical import Lexical
from laserrec.layers.living_neighbours import LivingNeighbours
from laserrec.layers.neighbours import Neighbours
from laserrec.layers.rows import Rows


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The items, what is known of them, and what they are compared by.

    Attributes:
        texts: their attributes, and what reads their texts.
        collaborative: the sequential recommender's view of them.
        states: the item matrix, raw embeddings float [N, H].
        neighbours: each item's nearest others by text; None where they do not count.
        lexical: which words the items' texts hold; None where they do not count.
        ids: the caller's own, in index order, empty for an item that is removed; training, which speaks indices alone, gives none.
        removed: True for items that only keep their index, because the sequential recommender's own items stand at fixed ones, bool [N].
        directions: unit vectors that items are compared by, [N, H]; None while they change with every step of training.
        standard: unit vectors of the standardised states, [N, H], by which items find their neighbours; None before the first change.
        bonus: what cold items get beyond the collaborative score of their nearest warm ones, in standard deviations; None while it is the
            trained model's.
    """

    texts: ItemTexts
    collaborative: CollaborativeView
    states: Rows
    neighbours: Neighbours | LivingNeighbours | None
    lexical: Lexical | None = None
    ids: tuple[str, ...] = ()
    removed: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.bool))
    directions: Rows | None = None
    standard: Rows | None = None
    bonus: Tensor | None = None

    def __len__(self) -> int:
        return len(self.collaborative.known)

    @property
    def unit_vectors(self) -> Rows:
        """The directions, [N, H], of a catalogue that answers requests."""
        assert self.directions is not None, "a catalogue that answers requests has them"
        return self.directions

    @property
    def living_neighbours(self) -> LivingNeighbours | None:
        """The neighbours of a catalogue that answers requests."""
        assert not isinstance(self.neighbours, Neighbours), "a catalogue that answers requests has a table that may change"
        return self.neighbours

    @cached_property
    def index(self) -> dict[str, int]:
        """Index of each item that is not removed, by id, in index order; nobody changes it."""
        found = dict(zip(self.ids, range(len(self.ids)), strict=True))
        found.pop("", None)
        return found

    def find(self, item_id: str) -> int:
        """Return an item's index.

        Raises:
            UnknownIdError: there is no such item, or it was removed; the message names the closest ids.
        """
        index = self.index.get(item_id) if isinstance(item_id, str) else None  # a list, say, cannot even be looked up
        if index is None:
            raise UnknownIdError("item", item_id, self.index)
        return index

    def rows(self, histories: Sequence[Sequence[str]]) -> list[list[int]]:
        """Return histories of ids as indices; raises as `find` does."""
        return [[self.find(item_id) for item_id in history] for history in histories]

    def title(self, index: int) -> str:
        """Return an item's title, or its id where it has none."""
        return self.texts.items[index].get("title", self.ids[index])

    def tables(self) -> dict[str, Tensor]:
        """Return what a model folder holds of the items beside the trained weights, by the names that training gives these tensors."""
        found = {"item_states": self.states.table}
        if (near := self.living_neighbours) is not None:
            found |= dict(zip(("neighbours.items", "neighbours.weights"), near.table(), strict=True))
        if self.lexical is not None:
            found["lexical.idf"] = self.lexical.idf
        return found if self.bonus is None else found | {"scorer.cold_start_bonus": self.bonus}
