"""A sequential recommender trained on its own: the one shape of every trained baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from laserrec.baselines.base import Fitted

if TYPE_CHECKING:
    from laserrec.config import Architecture, CollaborativeConfig, FitConfig, ItemsFrom, LaserConfig
    from laserrec.sequential.base import SequentialRecommender
    from laserrec.sequential.ensemble import Ensemble
    from laserrec.training.context import FitContext, Stage

    Section = TypeVar("Section", CollaborativeConfig, FitConfig)


@dataclass(frozen=True)
class Recipe:
    """What an architecture needs.

    Attributes:
        model: settings of its sizes and dropout, where they differ from the defaults.
        learning: how it is trained, where that differs.
    """

    model: Mapping[str, Any]
    learning: Mapping[str, Any]


RECIPES: Mapping[Architecture, Recipe] = {
    "sasrec": Recipe({}, {}),
    # Chosen on Scientific's validation (docs/log.md).
    "bert4rec": Recipe({"dropout": 0.3}, {"learning_rate": 3e-3, "patience": 6}),
    # One layer is customary for GRU4Rec.
    "gru4rec": Recipe({"blocks": 1}, {}),
    "fdsa": Recipe({}, {}),
}


@dataclass(frozen=True)
class SequentialBaseline:
    """A sequential recommender that is trained on all positions of the training histories.

    Attributes:
        name: what the command line calls it.
        label: what tables call it.
        summary: what it is, in a few words.
        model: its architecture.
        items: what its item vectors are made from.
        text_experts: maps from a text to a vector.
    """

    name: str
    label: str
    summary: str
    model: Architecture
    items: ItemsFrom = "id"
    text_experts: int = 1

    def stages(self, config: LaserConfig) -> Sequence[Stage]:
        """Return its fit, after the text vectors if it reads them."""
        from laserrec.training.pipeline import vectors_for
        from laserrec.training.sequential_stage import SequentialStage

        stage = SequentialStage(self.name, *self.settings(config), config.seed)
        return [*vectors_for([stage]), stage]

    def depends_on(self, config: LaserConfig) -> dict[str, Any]:
        """Return its sizes and how it is trained; also which language model reads what, if it reads texts."""
        model, learning = self.settings(config)
        own: dict[str, Any] = {"collaborative": model.architecture, "fit_collaborative": learning.model_dump(mode="json")}
        return own | (config.model_dump(mode="json", include={"llm", "prompt"}) if model.reads_texts else {})

    def fit(self, context: FitContext) -> Fitted:
        """Take what its stage has trained."""
        trained, reads = context.fits[self.name], self.settings(context.config)[0].reads_texts
        reading = context.vectors.seconds if reads and context.vectors else 0.0
        return scored_by(trained.model, self.label, trained.seconds + reading, trained.parameters)

    def settings(self, config: LaserConfig) -> tuple[CollaborativeConfig, FitConfig]:
        """Return how it is built and trained: as the run's settings say; where they are the defaults of another model, by its recipe."""
        from laserrec.config import LaserConfig

        usual, model, learning = LaserConfig(), config.collaborative, config.fit_collaborative
        if model.model != self.model:
            theirs, own = RECIPES[model.model], RECIPES[self.model]
            model = _where_undecided(model, usual.collaborative, theirs.model, own.model)
            learning = _where_undecided(learning, usual.fit_collaborative, theirs.learning, own.learning)
        return model.model_copy(update={"model": self.model, "items": self.items, "text_experts": self.text_experts}), learning


def scored_by(model: SequentialRecommender | Ensemble, label: str, seconds: float, parameters: int) -> Fitted:
    """Return a trained recommender, or several as one, as a baseline; it goes to evaluation mode."""
    import torch

    from laserrec.sequential.build import score_recent

    return Fitted(label, torch.no_grad()(partial(score_recent, model.eval())), seconds, parameters)


def _where_undecided(section: Section, usual: Section, theirs: Mapping[str, Any], own: Mapping[str, Any]) -> Section:
    """Return settings as a recipe has them, where they are as usual or as the recipe of the run's own model has them."""
    before, after = (usual.model_copy(update=dict(changes)) for changes in (theirs, own))
    undecided = (key for key in type(usual).model_fields if getattr(section, key) in (getattr(usual, key), getattr(before, key)))
    return section.model_copy(update={key: getattr(after, key) for key in undecided})
