"""Between messages and what the service works with: items, filters, moments, pages."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import TypeAdapter

from laserrec.errors import LaserrecError
from laserrec.laser.explanation import Explanation
from laserrec.serving.messages import ItemAnswer, MoveOfItem, RecommendedItem, Requirement, StoredEvent, TermsOfScore, Why
from laserrec.serving.ranking import Pick, title_of
from laserrec.serving.settings import CountsAs
from laserrec.serving.shelf import Condition
from laserrec.serving.store import Event, Item

SHOWN = TypeAdapter(list[str])
"""What a page holds; its parser refuses half a surrogate pair, which no answer could write."""


class LimitError(LaserrecError):
    """A request holds more than is allowed."""


def picked(pick: Pick) -> RecommendedItem:
    """Return a recommended item as it is answered."""
    item = pick.item
    return RecommendedItem(
        item_id=item.item_id,
        title=title_of(item),
        attributes=dict(item.attributes),
        score=pick.score,
        reason=pick.reason,
        why=None if pick.explanation is None else why(pick.explanation),
    )


def why(explanation: Explanation) -> Why:
    """Return an explanation as it is answered."""
    return Why(
        sentence=explanation.sentence,
        terms=TermsOfScore(**vars(explanation.terms)),
        moves=[MoveOfItem(**vars(move)) for move in explanation.moves],
        without_prefix=explanation.without_prefix,
        prefix_moves=explanation.prefix_moves,
        expert=explanation.expert,
        expert_probability=explanation.expert_probability,
    )


def stored(event: Event, item: Item | None, counts_as: CountsAs) -> StoredEvent:
    """Return an event as it is answered, with its item where the catalogue holds it."""
    return StoredEvent(
        item_id=event.item_id,
        title=None if item is None else title_of(item),
        kind=event.kind,
        counts_as=counts_as,
        time=moment_of(event.time),
        event_id=event.event_id,
        recommendation_id=event.recommendation_id,
    )


def answered(item: Item) -> ItemAnswer:
    """Return an item as it is answered."""
    until = None if item.available_until is None else moment_of(item.available_until)
    return ItemAnswer(
        item_id=item.item_id, title=title_of(item), attributes=dict(item.attributes), hidden=item.hidden, available_until=until
    )


def condition_of(attribute: str, requirement: Requirement) -> Condition:
    """Return what a filter demands of an attribute."""
    any_of = None if requirement.any_of is None else frozenset(requirement.any_of)
    if requirement.equals is not None:
        any_of = frozenset([requirement.equals]) & (frozenset([requirement.equals]) if any_of is None else any_of)
    return Condition(attribute, any_of, frozenset(requirement.none_of), requirement.at_least, requirement.at_most)


def microseconds_of(moment: datetime) -> int:
    """Return a moment with a time zone as microseconds since 1970."""
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment_of(microseconds: int) -> datetime:
    """Return microseconds since 1970 as a moment in UTC."""
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC).replace(microsecond=microseconds % 1_000_000)


def write_page(shown: Sequence[str]) -> str:
    """Return what an answer's `next_page` is: the ids that were shown, so that any replica can go on, also after a restart."""
    return base64.urlsafe_b64encode(SHOWN.dump_json(list(shown))).decode()


def read_page(page: str | None) -> list[str]:
    """Return the ids that earlier pages showed.

    Raises:
        LimitError: no answer gave this page.
    """
    if page is None:
        return []
    try:
        return SHOWN.validate_json(base64.b64decode(page.encode("ascii"), altchars=b"-_", validate=True), strict=True)
    except ValueError as error:
        raise LimitError("Received a page that no answer gave; send next_page of an earlier answer, or leave page out.") from error
