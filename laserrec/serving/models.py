"""Models side by side: which one answers whom, and one taking another's place while requests go on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from laserrec.errors import ConfigError
from laserrec.serving.conversions import LimitError
from laserrec.serving.messages import ModelAnswer, ModelsAnswer, OfflineFigure
from laserrec.serving.ranking import Answer, Question, Ranking

CONFIDENCE = 1.96
"""Standard deviations of a 95 % interval."""


@dataclass(frozen=True, eq=False)
class Model:
    """A model that answers a share of the users.

    Attributes:
        name: its name; a model that comes under the same name takes its place.
        version: what tells it from others of this name: the beginning of its fingerprint.
        share: its weight among the shares of all models.
        ranking: the model over the shop's items.
        source: where it was loaded from.
        offline: what was measured of it before.
    """

    name: str
    version: str
    share: float
    ranking: Ranking
    source: str
    offline: Sequence[OfflineFigure] = ()

    @property
    def full_name(self) -> str:
        """Name and version, as recommendations are attributed to it."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, eq=False)
class Models:
    """The models that answer, which never change; `with_model` makes the next selection."""

    all: tuple[Model, ...]

    def __post_init__(self) -> None:
        """Refuse a selection that would answer nobody.

        Raises:
            ConfigError: no model has a share.
        """
        if not sum(model.share for model in self.all) > 0:
            raise ConfigError("The shares of all models together are 0, so nobody would be answered; give one of them a share.")

    def named(self, name: str) -> Model:
        """Return the model of a name.

        Raises:
            LimitError: there is none.
        """
        for model in self.all:
            if model.name == name:
                return model
        raise LimitError(f"No model has this name; there are: {', '.join(model.name for model in self.all)}.")

    def of(self, user: str) -> Model:
        """Return the model that answers a user: always the same one while shares stay as they are."""
        place = int.from_bytes(hashlib.blake2b(user.encode("utf-8", "replace"), digest_size=8).digest()) / 2**64
        left = place * sum(model.share for model in self.all)
        for model in self.all:
            if left < model.share:
                return model
            left -= model.share
        return next(model for model in reversed(self.all) if model.share > 0)  # where rounding left a rest

    def with_model(self, model: Model) -> Models:
        """Return these models with one in place of that of the same name, or beside them."""
        if model.name not in {other.name for other in self.all}:
            return Models((*self.all, model))
        return Models(tuple(model if other.name == model.name else other for other in self.all))

    def described(self, counts: Mapping[str, tuple[int, int]]) -> ModelsAnswer:
        """Return the models, given by full name how many answers each gave, and how many of them an event followed."""
        total, found = sum(model.share for model in self.all), []
        for model in self.all:
            answers, hits = counts.get(model.full_name, (0, 0))
            low, high = interval(hits, answers)
            about = {"name": model.name, "version": model.version, "share": model.share / total, "offline": list(model.offline)}
            found.append(ModelAnswer(**about, answers=answers, hits=hits, rate=hits / max(answers, 1), low=low, high=high))
        return ModelsAnswer(models=found)


def answer_together(asked: Sequence[tuple[Ranking, Question]]) -> list[Answer]:
    """Answer questions to several models, in order; each model answers its own in one pass."""
    places: dict[Ranking, list[int]] = {}
    for place, (ranking, _) in enumerate(asked):
        places.setdefault(ranking, []).append(place)
    answers: dict[int, Answer] = {}
    for ranking, own in places.items():
        answers.update(zip(own, ranking.answer([asked[place][1] for place in own]), strict=True))
    return [answers[place] for place in range(len(asked))]


def interval(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate, after Wilson: between 0 and 1, also where nothing was counted."""
    if not count:
        return 0.0, 1.0
    rate, squared = hits / count, CONFIDENCE**2 / count
    middle = (rate + squared / 2) / (1 + squared)
    reach = CONFIDENCE * math.sqrt(rate * (1 - rate) / count + squared / (4 * count)) / (1 + squared)
    return max(middle - reach, 0.0), min(middle + reach, 1.0)
