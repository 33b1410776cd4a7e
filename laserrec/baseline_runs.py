"""Training and evaluating what Laser is compared with: each baseline in a folder of its own below a run, from which it is not done again.

    <run>/<baseline>/ranks-<part>.parquet    the target's rank of every case; which model, seconds and parameters are told in its header
    <run>/<baseline>/…                       checkpoint of the fit, where there is one

Knows nothing of printing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from laserrec.baselines.base import Baseline
from laserrec.baselines.last_text import LastItemText
from laserrec.baselines.popularity import Popularity
from laserrec.baselines.seen import SeenPenalty
from laserrec.baselines.sequential import Sequential
from laserrec.config import CollaborativeConfig, FitConfig, LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.data.prompts import Template
from laserrec.evaluation import Evaluation, evaluate
from laserrec.recommender import load_backbone
from laserrec.run_folder import Part, Result, RunFolder
from laserrec.training.fit import Session, fit_collaborative

IdBased = Literal["sasrec", "bert4rec", "gru4rec"]
BaselineName = Literal["popularity", "last-text", IdBased]
BASELINES: tuple[BaselineName, ...] = ("popularity", "last-text", *get_args(IdBased))
Say = Callable[[str], None]
"""Told in words what is under way."""

OWN_SETTINGS: Mapping[IdBased, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "sasrec": ({}, {}),
    "bert4rec": ({"dropout": 0.3}, {"learning_rate": 3e-3, "patience": 6}),
    "gru4rec": ({"blocks": 1}, {}),
}
"""What an id-based model other than the run's own needs to learn well: BERT4Rec's were chosen on Scientific's validation (docs/log.md),
GRU4Rec's single layer is customary and was not tuned."""


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
    """
    paths = {part: run.path / name / f"ranks-{part}.parquet" for part in parts if len(data.cases(part))}
    missing = [part for part, path in paths.items() if not path.is_file()]
    if missing:
        model, seconds = _fitted(name, data, run.config, session, say)
        popularity = np.bincount(data.training_histories().values, minlength=len(data.item_ids))
        for part in missing:
            about: dict[str, Any] = {"model": model.name, "dataset": data.name, "fingerprint": data.fingerprint, "part": part}
            about |= {"seconds": seconds, "parameters": model.trained_parameters}
            found = evaluate(model.scores, data.cases(part), popularity=popularity, about=about)
            found.save(paths[part], data.user_ids, data.item_ids)
    kept = {part: Evaluation.load(path) for part, path in paths.items()}
    return {part: Result(each, each.about["seconds"], each.about["parameters"]) for part, each in kept.items()}


def id_settings(config: LaserConfig, name: IdBased) -> tuple[CollaborativeConfig, FitConfig]:
    """Return how an id-based model is built and trained: as the run's own, or with what is its own."""
    settings, learning = config.collaborative, config.fit_collaborative
    if name == settings.model:
        return settings, learning
    changes, fit_changes = OWN_SETTINGS[name]
    return settings.model_copy(update={"model": name, **changes}), learning.model_copy(update=fit_changes)


def _fitted(name: BaselineName, data: Dataset, config: LaserConfig, session: Session, say: Say) -> tuple[Baseline, float]:
    """Return a baseline and the seconds that it took."""
    if name == "popularity":
        return _penalised(data, Popularity.fit(data.training_histories(), len(data.item_ids))), 0.0
    if name == "last-text":
        say("Last-item text: the language model reads every title")
        began = time.monotonic()
        return _penalised(data, _last_text(data, config)), time.monotonic() - began
    say(f"{name}: ids alone, all of the training data")
    settings, learning = id_settings(config, name)
    trained = fit_collaborative(data, settings, learning, seed=config.seed, session=session, hold_out=0, name=name)
    return Sequential(trained.model), trained.result.seconds


def _last_text(data: Dataset, config: LaserConfig) -> Baseline:
    template = Template(config.prompt)
    texts = [template.item_text(item) for item in data.attributes()]
    return LastItemText.encode(load_backbone(config), texts, max_tokens=config.prompt.max_item_tokens)


def _penalised(data: Dataset, model: Baseline) -> Baseline:
    """Offer a baseline what Laser and the id-based models learn: a penalty on seen items, chosen on validation."""
    cases = data.cases("valid")
    return SeenPenalty.choose(model, cases) if len(cases) else model
