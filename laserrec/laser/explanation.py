"""Why an item has its score: the terms that add up to it, and what moves it.

A *move* is the difference of two scores, with something and without it, everything else being equal. Each item of a history is left out
alone (leave-one-out). What several items do together is no single item's move, so moves do not add up to the score. A move describes the
model, and says nothing of why people buy.

Dimensions: V variants of histories, S history, A explained items, M different items of one history, H width of the LLM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from laserrec.data.ragged import Ragged
from laserrec.evaluation.ranking import rows_at_once
from laserrec.laser.ranking_requests import Recommendation, recommend
from laserrec.laser.scoring import ScoreTerms
from laserrec.laser.system import LaserSystem
from laserrec.layers.histories import padded, recent

SHOWN = 0.005
"""Moves below it are 0.00 where two decimals are written."""
WORTH_NAMING = 0.5
"""A sentence names the strongest move of the other direction when it is at least this share of the strongest of all."""


@dataclass(frozen=True)
class Terms:
    """The terms of a score; None for one that this model does not have.

    Attributes:
        language_model: scale · cosine of the directions of the history and the item.
        neighbours: how near the item is to those of the history by text.
        lexical: how many rare words the item shares with those of the history.
        collaborative: the sequential recommender's score; for a cold item the mean of its nearest warm ones.
        cold_start_bonus: what a cold item gets beyond that mean.
        seen_penalty: below 0 for an item of the history.
    """

    language_model: float
    neighbours: float | None
    lexical: float | None
    collaborative: float | None
    cold_start_bonus: float | None
    seen_penalty: float | None

    @property
    def total(self) -> float:
        """Their sum, the score."""
        return float(sum(term for term in astuple(self) if term is not None))


@dataclass(frozen=True)
class Move:
    """What one item of the history moves.

    Attributes:
        item_id: the history's item.
        title: its title, or its id where it has none.
        by: the score, less the score after the history without this item, wherever it stands in it. Of a history that holds a single item,
            less the score after no history at all.
        cosine: of the directions of this item and the explained one, from -1 to 1.
    """

    item_id: str
    title: str
    by: float
    cosine: float


@dataclass(frozen=True)
class Explanation(Recommendation):
    """Why an item has its score after a history; the score is that of `Laser.recommend` up to rounding.

    Attributes:
        terms: what adds up to it.
        moves: one for each different item of the history, in the order in which they first stand there.
        without_prefix: the score if the language model read the same texts with a prefix that knows nothing of the history; None where no
            prefix is made from the sequential recommender's states.
        expert: number of the query expert that read the history, from 0; None where there is no router.
        expert_probability: the router's probability of that expert, averaged over the items that it looked at.
        cold: the sequential recommender was not trained on the item.
    """

    terms: Terms
    moves: tuple[Move, ...]
    without_prefix: float | None
    expert: int | None
    expert_probability: float | None
    cold: bool

    @property
    def prefix_moves(self) -> float | None:
        """The score, less the score without the collaborative prefix."""
        return None if self.without_prefix is None else self.score - self.without_prefix

    @property
    def nearest(self) -> tuple[Move, ...]:
        """The history's items, those with the nearest texts first, without the explained item itself."""
        return tuple(sorted((move for move in self.moves if move.item_id != self.item_id), key=lambda move: -move.cosine))

    @property
    def sentence(self) -> str:
        """The largest moves in one sentence.

        Example: `Gas stove moves the score by +0.42, the most of your 2 items; Tent has the nearest text.`
        """
        strongest, count = max(self.moves, key=lambda move: abs(move.by)), len(self.moves)
        if count == 1:
            how_far = f"{strongest.by:+.2f}" if abs(strongest.by) >= SHOWN else "less than 0.01"
            return f"{strongest.title}, your only item, moves the score by {how_far} against an empty history."
        nearest = self.nearest[0]
        if abs(strongest.by) < SHOWN:
            return f"None of your {count} items alone moves the score by 0.01; {nearest.title} has the nearest text."
        name = f"{strongest.title}, the nearest by text," if nearest == strongest else strongest.title
        said = f"{name} moves the score by {strongest.by:+.2f}, the most of your {count} items"
        opposite = min(self.moves, key=lambda move: move.by * strongest.by)
        if opposite.by * strongest.by < 0 and abs(opposite.by) >= max(WORTH_NAMING * abs(strongest.by), SHOWN):
            said += f", and {opposite.title} by {opposite.by:+.2f}"
        return f"{said}." if nearest == strongest else f"{said}; {nearest.title} has the nearest text."

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it: the attributes, `prefix_moves` and `sentence`."""
        return asdict(self) | {"moves": [asdict(move) for move in self.moves], "prefix_moves": self.prefix_moves, "sentence": self.sentence}


def explain(
    system: LaserSystem,
    histories: Sequence[Sequence[str]],
    item_ids: Sequence[Sequence[str]] | None,
    k: int,
    barred: Tensor,
    *,
    exclude_seen: bool,
) -> list[list[Explanation]]:
    """Explain scores after histories of ids, from one state of the catalogue.

    Args:
        system: one whose catalogue answers requests.
        histories: item ids, at least one each.
        item_ids: for each history the items to explain; the k best when None.
        k: how many of those.
        barred: items that are not among the k best, bool [N].
        exclude_seen: nor are each history's own.

    Raises:
        UnknownIdError: an id that the catalogue does not hold.
    """
    catalogue = system.catalogue
    rows = catalogue.rows(histories)
    if item_ids is None:
        found = recommend(catalogue, system.scores, rows, k, barred, exclude_seen=exclude_seen)
        item_ids = [[item.item_id for item in row] for row in found]
    return explain_rows(system, rows, catalogue.rows(item_ids))


@torch.no_grad()
def explain_rows(system: LaserSystem, histories: Sequence[Sequence[int]], asked: Sequence[Sequence[int]]) -> list[list[Explanation]]:
    """Explain scores; the language model reads all variants of all histories in one pass.

    Args:
        system: as in `explain`.
        histories: of item indices, at least one each.
        asked: for each history, the indices of the items whose scores are explained.
    """
    if not histories:
        return []
    variants: list[Sequence[int]] = []
    starts = [0]
    for history in histories:
        variants += [history, history]  # as it is, and without the collaborative prefix
        variants += [[item for item in history if item != left_out] for left_out in dict.fromkeys(history)]
        starts.append(len(variants))
    items, mask = padded(Ragged.from_rows(variants), system.device)
    bare = torch.tensor([start + 1 for start in starts[:-1]], device=system.device)
    informed = torch.ones_like(mask[:, 0]).index_fill_(0, bare, value=False)
    users, routed = _read(system, items, mask, informed)
    found = []
    for history, wanted, (start, end) in zip(histories, asked, pairwise(starts), strict=True):
        places = torch.tensor(wanted, dtype=torch.int64, device=system.device)
        terms = _terms(system, users[start:end], items[start:end], mask[start:end], places)
        found.append(_explained(system, list(dict.fromkeys(history)), places, terms, routed[start]))
    return found


def _read(system: LaserSystem, items: Tensor, mask: Tensor, informed: Tensor) -> tuple[Tensor, list[tuple[int | None, float | None]]]:
    """Embed histories as `LaserSystem.embed` does, each different one once: raw states [V, H], and each one's expert and its probability.

    Variants without an item that is too old to be read are all the same to the language model.
    """
    texts, shown = recent(items, mask, system.max_history)
    known, real = system.collaborative.readable(items, mask)
    key = torch.cat([texts.masked_fill(~shown, -1), known.masked_fill(~(real & informed[:, None]), -1)], dim=1)
    different, which = key.unique(dim=0, return_inverse=True)
    rows = which.new_empty(len(different)).scatter_(0, which, torch.arange(len(which), device=which.device))
    users, routing = system.embed(items[rows], mask[rows], informed[rows])
    if routing is None:
        return users[which], [(None, None)] * len(which)
    return users[which], list(zip(routing.chosen[which].tolist(), routing.weight[which].tolist(), strict=True))


def _terms(system: LaserSystem, users: Tensor, items: Tensor, mask: Tensor, asked: Tensor) -> Tensor:
    """Return `Scorer.weighted_terms` of some items, int64 [A], after histories: float64 [6, V, A] on the CPU."""
    scorer, catalogue = system.model.scorer, system.catalogue
    every = scorer.projection()(users) @ catalogue.unit_vectors[asked].T
    parts, rows = [], rows_at_once(len(catalogue))
    for cosines, here, real in zip(every.split(rows), items.split(rows), mask.split(rows), strict=True):
        others = (None if term is None else term[:, asked] for term in system.other_terms(here, real, bonus=0.0))
        bonus = system.bonus * system.collaborative.gets_bonus(here, real, asked)
        seen = ((here[..., None] == asked) & real[..., None]).any(1)
        parts.append(scorer.weighted_terms(ScoreTerms(cosines, *others), bonus, seen))
    return torch.cat(parts, dim=1).cpu().double()


def _explained(
    system: LaserSystem, history: list[int], asked: Tensor, terms: Tensor, routed: tuple[int | None, float | None]
) -> list[Explanation]:
    """Put the explanations of one history's items together.

    Args:
        system: as in `explain`.
        history: M different items.
        asked: int64 [A].
        terms: float64 [6, 2 + M, A], of the history as it is, without the collaborative prefix, and without each item.
        routed: expert and its probability.
    """
    scorer, catalogue, view = system.model.scorer, system.catalogue, system.collaborative
    fused = scorer.collaborative_weight
    has = (scorer.neighbour_weight, scorer.lexical_weight, fused, fused, scorer.seen_penalty)
    directions = catalogue.unit_vectors
    cosines = (directions[asked] @ directions[torch.tensor(history, device=asked.device)].T).tolist()
    whole, without_prefix, *without_item = terms.sum(0)
    found = []
    for place, item in enumerate(asked.tolist()):
        moves = (
            Move(catalogue.ids[other], catalogue.title(other), float(whole[place] - without[place]), cosine)
            for other, without, cosine in zip(history, without_item, cosines[place], strict=True)
        )
        language_model, *others = terms[:, 0, place].tolist()
        found.append(
            Explanation(
                item_id=catalogue.ids[item],
                title=catalogue.title(item),
                score=float(whole[place]),
                terms=Terms(language_model, *(None if weight is None else term for term, weight in zip(others, has, strict=True))),
                moves=tuple(moves),
                without_prefix=None if system.model.source is None else float(without_prefix[place]),
                expert=routed[0],
                expert_probability=routed[1],
                cold=not bool(view.scored[item]),
            )
        )
    return found
