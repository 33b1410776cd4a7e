"""What the service is sent and what it answers, as JSON. Unknown fields are refused."""

from __future__ import annotations

import math
from functools import partial
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from laserrec.serving.ranking import Reason
from laserrec.serving.settings import CountsAs

LONGEST_ID = 256
"""Characters of an id, of a kind of event, of an attribute's name."""
Id = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST_ID, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""An id; blanks around it do not count, as in every table of events and items."""
PathId = Annotated[Id, BeforeValidator(partial(unquote, errors="strict"))]
"""An id as a segment of a path, percent-encoded: a `/` in it is written `%2F`."""
Text = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def _as_text(value: object) -> object:
    """Write a number as text; what is neither is refused afterwards."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return str(value) if number else value


Value = Annotated[
    str,
    BeforeValidator(_as_text),
    Field(pattern=r"^[^\x00]*$"),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": r"^[^\x00]*$"}, {"type": "number"}]}),
]
"""Text or a number, which is kept as text."""


class Message(BaseModel):
    """Something that is sent or answered."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Requirement(Message):
    """What an attribute must be; everything that is set must hold."""

    equals: Value | None = None
    """The one value that matches."""
    any_of: list[Value] | None = None
    """Values of which one matches."""
    none_of: list[Value] = []
    """Values that do not match; an item without the attribute has none of them."""
    at_least: Finite | None = None
    """Smallest number that matches."""
    at_most: Finite | None = None
    """Largest number that matches."""


class RecommendationRequest(Message):
    """What to recommend, after what: give exactly one of `user_id`, `items` and `texts`."""

    user_id: Id | None = None
    """A user; the stored history is read."""
    items: list[Id] | None = None
    """A history of item ids, oldest first."""
    texts: list[Text] | None = None
    """A history of texts, oldest first; they need not be in the catalogue."""
    k: int = Field(10, ge=1)
    """How many items; so many come back as long as so many match."""
    exclude_seen: bool = True
    """Leave items of the history out."""
    filter: dict[Id, Requirement] = {}
    """What items must be like, by attribute; all must hold."""
    only: list[Id] | None = None
    """Item ids to choose from."""
    without: list[Id] = []
    """Item ids to leave out."""
    explain: bool = False
    """Say why each item has its score; for histories of item ids alone."""
    collaborative_prefix: bool = True
    """False for a list without the collaborative prefix: the language model reads the same texts, with a prefix that knows nothing of the
    history. For histories of item ids, and without `explain`, which says what the prefix moves."""
    model: Id | None = None
    """Name of the model that answers; by the shares of the models when unset."""
    preview: bool = False
    """Show what would be recommended: the answer does not count as one that a user saw."""
    page: str | None = Field(None, max_length=2**20)
    """`next_page` of an earlier answer to the same request: none of its items comes again."""

    @model_validator(mode="after")
    def _one_history(self) -> Self:
        if sum(history is not None for history in (self.user_id, self.items, self.texts)) != 1:
            raise ValueError("give exactly one of user_id, items and texts")
        if self.explain and self.texts is not None:
            raise ValueError("explain needs a history of item ids; give user_id or items, or leave explain out")
        if not self.collaborative_prefix and (self.explain or self.texts is not None):
            raise ValueError("collaborative_prefix = false needs a history of item ids, and no explain; leave one of them out")
        return self


class RecommendationBatch(Message):
    """Several requests, answered in order."""

    requests: list[RecommendationRequest] = Field(min_length=1)


class TermsOfScore(Message):
    """The terms of a score; they add up to it. Null for one that the model does not have."""

    language_model: float
    """How near the item is to what the language model read, scaled."""
    neighbours: float | None
    """How near it is to the items of the history by text."""
    lexical: float | None
    """How many rare words it shares with the items of the history."""
    collaborative: float | None
    """The sequential recommender's score; for a cold item that of its nearest warm items."""
    cold_start_bonus: float | None
    """What an item without interactions gets beyond that."""
    seen_penalty: float | None
    """Below 0 for an item of the history."""


class MoveOfItem(Message):
    """How far one item of the history moves a score."""

    item_id: str
    title: str
    by: float
    """The score, less the score after the history without this item."""
    cosine: float
    """How near the two items' texts are, from -1 to 1."""


class Why(Message):
    """Why an item has its score. It describes the model, not why people buy."""

    sentence: str
    terms: TermsOfScore
    moves: list[MoveOfItem]
    """One for each different item of the history, in its order. They do not add up to the score."""
    without_prefix: float | None
    """The score if the language model's prefix knew nothing of the history; null where the model has no such prefix."""
    prefix_moves: float | None
    """The score, less that one."""
    expert: int | None
    """Number of the query expert that read the history, from 0; null where there is no router."""
    expert_probability: float | None
    """The router's mean probability of that expert."""


class RecommendedItem(Message):
    """One recommended item."""

    item_id: str
    title: str
    attributes: dict[str, str]
    score: float
    """What it was ranked by, comparable within one answer only; of a popular item its number of events."""
    reason: Reason
    """`personal`: from the history. `new_item`: from the history, and the item is known from its text alone. `popular`: the history held
    nothing that could be used."""
    why: Why | None
    """With `explain`; null for a popular item."""


class ModelName(Message):
    """Which model answered."""

    name: str
    version: str


class RecommendationAnswer(Message):
    """What is recommended, best first."""

    recommendation_id: str
    """Send it with the events that follow, so that they are attributed to this answer."""
    model: ModelName
    items: list[RecommendedItem]
    unknown_items: list[str]
    """Ids of the request that are no item of the catalogue; they were left out."""
    next_page: str | None
    """For `page`; null where there is nothing more."""


class BatchAnswer(Message):
    """Answers in the order of the requests."""

    answers: list[RecommendationAnswer]


class EventMessage(Message):
    """Something that a user did with an item."""

    user_id: Id
    item_id: Id
    kind: Id = "interaction"
    """Such as `purchase`; which kinds are no interest, and which are dislikes, is configured."""
    time: AwareDatetime | None = None
    """When, with a time zone; now when unset."""
    event_id: Id | None = None
    """Your own id: the same id twice is one event, so that sending can be repeated."""
    recommendation_id: Id | None = None
    """The answer that it followed from."""


class EventsRequest(Message):
    """Events, kept in the order given where their times are equal."""

    events: list[EventMessage] = Field(min_length=1)


class RefusedEvent(Message):
    """An event that was not kept."""

    place: int
    """Its place in the request, from 0."""
    reason: str


class Receipt(Message):
    """What became of events. Accepted means durable."""

    accepted: int
    duplicates: list[str]
    """Event ids that were there already."""
    refused: list[RefusedEvent]
    unknown_items: list[str]
    """Items that the catalogue does not hold; their events are kept and count once they are added."""


class StoredEvent(Message):
    """An event of a user's history."""

    item_id: str
    title: str | None
    """Null where the catalogue does not hold the item."""
    kind: str
    counts_as: CountsAs
    """What this service's settings make of the kind: `interest` is part of the history, and an item with a `dislike` does not come back."""
    time: AwareDatetime
    event_id: str | None
    recommendation_id: str | None


class UserHistory(Message):
    """A user's latest events, oldest first."""

    user_id: str
    events: list[StoredEvent]


class UsersAnswer(Message):
    """Users among the latest events."""

    user_ids: list[str]


class Erased(Message):
    """What was erased."""

    user_id: str
    events: int


def _no_second_id(attributes: dict[str, Any]) -> dict[str, Any]:
    if "item_id" in attributes:
        raise ValueError("an attribute cannot be named item_id")
    return attributes


class ItemBody(Message):
    """An item as a whole."""

    attributes: Annotated[dict[Id, Value], AfterValidator(_no_second_id)]
    """Texts and numbers by name; `title` must be among them."""
    hidden: bool = False
    """Leave it out of all answers."""
    available_until: AwareDatetime | None = None
    """When it leaves all answers."""

    @model_validator(mode="after")
    def _has_a_title(self) -> Self:
        if not self.attributes.get("title", "").strip():
            raise ValueError("attributes must hold a title that is not empty")
        return self


class NewItem(ItemBody):
    """An item as a whole, with its id."""

    item_id: Id


class ItemsRequest(Message):
    """Items to add or replace: all or none."""

    items: list[NewItem] = Field(min_length=1)


class ItemPatch(Message):
    """What changes of an item; the rest stays."""

    attributes: Annotated[dict[Id, Value | None], AfterValidator(_no_second_id)] = {}
    """New values; null takes an attribute away."""
    hidden: bool = False
    available_until: AwareDatetime | None = None
    """Null for no end."""

    @model_validator(mode="after")
    def _keeps_a_title(self) -> Self:
        if "title" in self.attributes and not (self.attributes["title"] or "").strip():
            raise ValueError("the title cannot be taken away")
        return self


class ItemAnswer(Message):
    """An item of the catalogue."""

    item_id: str
    title: str
    attributes: dict[str, str]
    hidden: bool
    available_until: AwareDatetime | None


class ItemsAnswer(Message):
    """Items of the catalogue."""

    items: list[ItemAnswer]


class SimilarItem(Message):
    """An item like another."""

    item_id: str
    title: str
    attributes: dict[str, str]
    score: float
    """Cosine of the two items' vectors."""


class SimilarAnswer(Message):
    """The items most like another, best first."""

    items: list[SimilarItem]


class NewModel(Message):
    """A model to load, beside the others or in place of the one of the same name."""

    source: Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]
    """Folder of a run or of a model on the service's machine, or `hf:owner/name`."""
    name: Id = "default"
    share: float = Field(1.0, ge=0, le=1e6)
    """Its weight among the shares of all models; users are kept to one model by a hash."""


class OfflineFigure(Message):
    """What `laserrec evaluate` measured of a model."""

    split: Literal["valid", "test"]
    """Whose targets were ranked."""
    protocol: Literal["full", "filter_seen"]
    """`full` ranks every item; `filter_seen` leaves the history's items out. Figures of the two cannot be compared."""
    metric: Literal["ndcg@10", "recall@10"]
    mean: float
    """Over the cases."""
    low: float
    """Lower end of its 95 % interval, by bootstrap over the cases."""
    high: float
    """Upper end."""
    cases: int


class ModelAnswer(Message):
    """A model that answers, and what followed from its answers."""

    name: str
    version: str
    share: float
    """Part of the users that it answers, from 0 to 1."""
    answers: int
    """Recommendations that it gave."""
    hits: int
    """Those among them that an event of interest followed, sent with their `recommendation_id`."""
    rate: float
    """Hits of an answer."""
    low: float
    """Lower end of the rate's 95 % interval, after Wilson."""
    high: float
    """Upper end."""
    offline: list[OfflineFigure]
    """What was measured before it was served; empty where its folder holds no evaluation."""


class ModelsAnswer(Message):
    """The models that answer."""

    models: list[ModelAnswer]


class MapAttribute(Message):
    """An attribute that divides the items of a map."""

    name: str
    kinds: list[str]
    """Its most common first words, the most common one first, and `other` for all else."""
    codes: list[int]
    """Of each item the place of its kind in `kinds`."""


class MapAnswer(Message):
    """Items in the plane, in columns of the same length. Near on the map means near in two of the model's many directions."""

    catalogue: int
    """How many items answers may hold. Where `item_ids` are fewer, they are evenly spread over the catalogue."""
    explained: list[float]
    """Share of the variance along each axis."""
    item_ids: list[str]
    titles: list[str]
    x: list[float]
    """The first principal component of the item's vector."""
    y: list[float]
    """The second one."""
    attributes: list[MapAttribute]
    """Those that divide the items well, the best first."""


class PairedTest(Message):
    """A new model against the one that it joins or replaces, on the test cases of both."""

    metric: str
    exclude_seen: bool
    """Whether items of the history were left out of the ranking."""
    difference: float
    """The new model's mean, less the running one's."""
    low: float
    """Lower end of the difference's 95 % interval."""
    high: float
    """Upper end."""
    p_value: float
    """Of the two-sided paired randomisation test."""


class NewModelAnswer(ModelsAnswer):
    """The models that answer, and how a new one did beside the running one before."""

    against: ModelName
    """The model that it replaces; else the first one."""
    tests: list[PairedTest]
    """Empty where the two cannot be compared."""
    not_compared: str | None
    """Why they cannot; null where they are."""


class ErrorAnswer(Message):
    """Why a request was not answered."""

    error: Literal[
        "invalid",
        "too_large",
        "not_found",
        "unauthorised",
        "forbidden",
        "method_not_allowed",
        "too_many_requests",
        "deadline",
        "not_ready",
        "store",
        "internal",
    ]
    message: str


class Readiness(Message):
    """Whether requests are answered, and what is missing."""

    ready: bool
    missing: list[str]
