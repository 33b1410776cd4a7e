"""Training and evaluating what Laser is compared with: each baseline in a folder of its own below a run, from which it is not done again.

    <run>/<baseline>/ranks-<part>.parquet    the target's rank of every case; its header tells model, seconds, parameters and peak memory
    <run>/<baseline>/…                       checkpoint of the fit, where there is one

Knows nothing of printing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from laserrec.baselines.base import Baseline
from laserrec.baselines.last_text import LastItemText
from laserrec.baselines.neighbours import ItemNeighbours
from laserrec.baselines.popularity import Popularity
from laserrec.baselines.seen import SeenPenalty
from laserrec.baselines.sequential import Sequential
from laserrec.config import BERT4REC_FIT, PATIENT_FIT, Architecture, CollaborativeConfig, FitConfig, ItemsFrom, LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.errors import ConfigError, DataError
from laserrec.evaluation.metrics import Evaluation, evaluate
from laserrec.llm.loading import load_backbone
from laserrec.runs.folder import Part, Result, RunFolder
from laserrec.system.resources import MemoryPeak
from laserrec.training.fit import blend_refits, fit_collaborative, fit_refits, reads_texts, refit_settings
from laserrec.training.neighbours import count_neighbours
from laserrec.training.session import Session
from laserrec.training.text_vectors import TextVectors, text_vectors

Trained = Literal["sasrec", "bert4rec", "gru4rec", "sasrec-text", "gru4rec-text", "fdsa", "unisrec-text", "unisrec", "sasrec-text-id"]
BaselineName = Literal["popularity", "item-knn", "last-text", Trained, "ensemble"]
BASELINES: tuple[BaselineName, ...] = ("popularity", "item-knn", "last-text", *get_args(Trained), "ensemble")
Section = TypeVar("Section", CollaborativeConfig, FitConfig)
SELDOM = 0.2
"""Seconds between two looks at the memory at most."""
Say = Callable[[str], None]
"""Told in words what is under way."""


@dataclass(frozen=True)
class Recipe:
    """What makes a trained baseline.

    Attributes:
        label: what tables call it.
        model: its architecture.
        items: what its item vectors are made from.
        text_experts: maps from a text to a vector.
        settings: of its sizes and dropout, where they differ from the usual ones.
        fit: how it is trained, where that differs.
    """

    label: str
    model: Architecture
    items: ItemsFrom
    text_experts: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    fit: Mapping[str, Any] = field(default_factory=dict)


ONE_LAYER = {"blocks": 1}
"""Customary for GRU4Rec."""
RECIPES: Mapping[Trained, Recipe] = {
    "sasrec": Recipe("SASRec", "sasrec", "id"),
    # Chosen on Scientific's validation (docs/log.md).
    "bert4rec": Recipe("BERT4Rec", "bert4rec", "id", settings={"dropout": 0.3}, fit=BERT4REC_FIT),
    "gru4rec": Recipe("GRU4Rec", "gru4rec", "id", settings=ONE_LAYER, fit=PATIENT_FIT),
    "sasrec-text": Recipe("SASRec on text", "sasrec", "text"),
    "gru4rec-text": Recipe("GRU4Rec on text", "gru4rec", "text", settings=ONE_LAYER, fit=PATIENT_FIT),
    "fdsa": Recipe("FDSA", "fdsa", "id", fit=PATIENT_FIT),
    "unisrec-text": Recipe("UniSRec (text)", "sasrec", "text", text_experts=8),
    "unisrec": Recipe("UniSRec (text + id)", "sasrec", "both", text_experts=8),
    "sasrec-text-id": Recipe("SASRec (text + id)", "sasrec", "both"),
}
"""Of models that are pre-trained on several catalogues, what is left when they are trained from scratch on one.

UniSRec (Hou et al., KDD 2022) is its item encoder in SASRec; docs/method.md has what differs. Of ZESRec's kind (Ding et al., 2021) is
"gru4rec-text": a recurrent network over item vectors from texts, without ids.
"""


def measure_baseline(
    name: BaselineName, data: Dataset, run: RunFolder, session: Session, say: Say = lambda _: None, parts: Sequence[Part] = ("test",)
) -> dict[Part, Result]:
    """Return how a baseline does: as kept below the run, or fitted and evaluated now.

    Args:
        name: which one.
        data: the run's dataset.
        run: the run's folder and settings.
        session: where and how a fit is kept.
        say: told what is under way.
        parts: which cases; those without any are left out.

    Raises:
        DataError: there is no case at all, or kept ranks cannot be read.
    """
    paths = {part: run.path / name / f"ranks-{part}.parquet" for part in parts if len(data.cases(part))}
    if not paths:
        raise DataError(f"{data.name} has no case to evaluate on {' or '.join(parts)}. Prepare it with another split.")
    missing = [part for part, path in paths.items() if not path.is_file()]
    if missing:
        earlier = [Evaluation.load(path).about.get("peak_memory", 0) for part, path in paths.items() if part not in missing]
        with MemoryPeak(session.device, seldom=SELDOM) as memory:
            measured = _evaluated(name, data, run, session, say, missing)
        peak = max([memory.highest, *earlier])
        for part, found in measured.items():
            replace(found, about={**found.about, "peak_memory": peak}).save(paths[part], data.user_ids, data.item_ids)
    kept = {part: Evaluation.load(path) for part, path in paths.items()}
    return {part: Result(each, each.about["seconds"], each.about["parameters"]) for part, each in kept.items()}


def _evaluated(
    name: BaselineName, data: Dataset, run: RunFolder, session: Session, say: Say, parts: Sequence[Part]
) -> dict[Part, Evaluation]:
    """Fit a baseline and rank the targets of some parts' cases."""
    model, seconds = _fitted(name, data, run.config, session, say)
    popularity = np.bincount(data.training_histories().values, minlength=len(data.item_ids))
    about: dict[str, Any] = {"model": model.name, "dataset": data.name, "fingerprint": data.fingerprint, "seconds": seconds}
    about |= {"parameters": model.trained_parameters, "settings": _described(name, run)}

    def ranked(part: Part) -> Evaluation:
        cases, device = data.cases(part), session.device
        return evaluate(model.scores, cases, popularity=popularity, device=device, about={**about, "part": part})

    return {part: ranked(part) for part in parts}


def trained_settings(config: LaserConfig, name: Trained) -> tuple[CollaborativeConfig, FitConfig]:
    """Return how a baseline is built and trained: as the settings say, and where they are the defaults of another model, by its recipe."""
    recipe, usual, settings, learning = RECIPES[name], LaserConfig(), config.collaborative, config.fit_collaborative
    if settings.model != recipe.model:
        own = RECIPES[settings.model]
        settings = _where_undecided(settings, usual.collaborative, own.settings, recipe.settings)
        learning = _where_undecided(learning, usual.fit_collaborative, own.fit, recipe.fit)
    return settings.model_copy(update={"model": recipe.model, "items": recipe.items, "text_experts": recipe.text_experts}), learning


def _where_undecided(section: Section, usual: Section, own: Mapping[str, Any], recipe: Mapping[str, Any]) -> Section:
    """Return settings as a recipe has them, where they are as usual or as the recipe of the run's own model has them."""
    before, after = (usual.model_copy(update=dict(changes)) for changes in (own, recipe))
    undecided = (key for key in type(usual).model_fields if getattr(section, key) in (getattr(usual, key), getattr(before, key)))
    return section.model_copy(update={key: getattr(after, key) for key in undecided})


def _described(name: BaselineName, run: RunFolder) -> dict[str, Any]:
    """Return the settings that a baseline depends on, but for the seed and for what a plan chose."""
    config = run.config.override([f"{key}=none" for key in run.about.get("plan", {}).get("chosen", {})])
    prompt = {"llm": config.llm.model_dump(mode="json"), "prompt": config.prompt.model_dump(mode="json")}
    if name == "popularity" or name == "item-knn":
        return {}
    if name == "last-text":
        return prompt
    settings, learning = (config.collaborative, config.fit_collaborative) if name == "ensemble" else trained_settings(config, name)
    own: dict[str, Any] = {"collaborative": settings.architecture, "fit_collaborative": learning.model_dump(mode="json")}
    if name == "ensemble":  # neighbours are blended by the cases that stage 2 validates on
        own["collaborative"] |= settings.model_dump(mode="json", include={"refits", "neighbours"})
        return own | prompt | {"stage2": {"validation_cases": config.stage2.validation_cases}}
    return own | prompt if settings.reads_texts else own


def _fitted(name: BaselineName, data: Dataset, config: LaserConfig, session: Session, say: Say) -> tuple[Baseline, float]:
    """Return a baseline and the seconds that it took."""
    if name == "popularity":
        return _penalised(data, Popularity.fit(data.training_histories(), len(data.item_ids)), session), 0.0
    if name == "item-knn":
        began = time.monotonic()
        counted = count_neighbours(data.training_histories(), len(data.item_ids))
        return ItemNeighbours(counted.to(session.device)), time.monotonic() - began
    if name == "last-text":
        say("Last-item text: the language model reads every title")
        read = _read(data, config, session)
        return _penalised(data, LastItemText(read.values.to(session.device)), session), read.seconds
    if name == "ensemble":
        return _ensemble(data, config, session, say)
    recipe, (settings, learning) = RECIPES[name], trained_settings(config, name)
    say(f"{recipe.label}: all of the training data")
    texts = _read(data, config, session) if settings.reads_texts else None
    trained = fit_collaborative(data, settings, learning, seed=config.seed, session=session, hold_out=0, name=name, texts=texts)
    seconds = trained.result.seconds + (texts.seconds if texts else 0.0)
    return Sequential(trained.model, recipe.label, trained.parameters), seconds


def _ensemble(data: Dataset, config: LaserConfig, session: Session, say: Say) -> tuple[Baseline, float]:
    """Return what Laser fuses in the end, without the language model's own score beside it."""
    if not refit_settings(config):
        raise ConfigError(
            "There is no ensemble: collaborative.refits is empty, collaborative.hold_out is 0 or score.fuse_collaborative is false. "
            "Set all three, such as collaborative.refits=['id', 'both']."
        )
    say("Ensemble: the recommenders whose mean score Laser fuses")
    texts = _read(data, config, session) if reads_texts(config) else None
    refits = fit_refits(data, config, session=session, texts=texts)
    seconds, began = sum(refit.result.seconds for refit in refits) + (texts.seconds if texts else 0.0), time.monotonic()
    (model,) = blend_refits([[refit.model for refit in refits]], data, config)
    seconds += time.monotonic() - began
    name, parameters = f"Ensemble of {len(refits)}", sum(refit.parameters for refit in refits)
    if model.neighbours is not None:
        name, parameters = f"{name} and neighbours", parameters + len(model.shares)
    return Sequential(model, name, parameters), seconds


def _read(data: Dataset, config: LaserConfig, session: Session) -> TextVectors:
    return text_vectors(data, config.prompt, load_backbone(config, session.device), session)


def _penalised(data: Dataset, model: Baseline, session: Session) -> Baseline:
    """Offer a baseline what Laser and the trained models learn: a penalty on seen items, chosen on validation."""
    cases = data.cases("valid")
    return SeenPenalty.choose(model, cases, device=session.device) if len(cases) else model
