"""A search over settings, by Optuna: resumable, with pruning, and the same budget for every model.

    <folder>/study.db              every trial, in Optuna's own storage; shared by all models of the folder
    <folder>/<model>/best.json     the best settings so far, as --config takes them
    <folder>/<model>/trial/        fits of the trial under way, removed at its end
    <folder>/<model>/shared/       what all trials of Laser have in common: its id-based recommender

Only validation is looked at.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from laserrec.config import LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.errors import ConfigError, MissingExtraError, NonFiniteLossError, TrainingError
from laserrec.llm.loading import load_backbone
from laserrec.recommender import Laser
from laserrec.runs.baselines import trained_settings
from laserrec.runs.tuning.space import Between, OneOf, Tuned, Value, space_of
from laserrec.system.devices import CPU
from laserrec.system.files import alone, write_json
from laserrec.training.fit import fit_collaborative
from laserrec.training.loop import Observer
from laserrec.training.session import Session
from laserrec.training.text_vectors import TextVectors, text_vectors

WHOLE_TRIALS, WARM_UP_EPOCHS = 2, 10
"""Trials before any is pruned, and the most epochs of a trial before it may be: one slow trial must not take most of a small budget."""
STARTING_TRIALS = 5
"""Trials before the sampler learns from them."""


@dataclass(frozen=True)
class Trial:
    """One try.

    Attributes:
        settings: what was tried.
        score: the best validation score it came to; None if it diverged at once.
        epochs: of the fit that decides, made.
        seconds: wall time.
        pruned: stopped early, for falling behind or for a loss that is no number.
    """

    settings: Mapping[str, Value]
    score: float | None
    epochs: int
    seconds: float
    pruned: bool


@dataclass(frozen=True)
class Tuning:
    """Where a search stands.

    Attributes:
        model: what is tuned.
        trials: made, pruned ones among them.
        pruned: stopped early for falling behind.
        score: the best validation score.
        defaults: the score of the settings that the search started from; None if that trial diverged.
        settings: the best trial's.
        tried: all of them, in order.
    """

    model: str
    trials: int
    pruned: int
    score: float
    defaults: float | None
    settings: Mapping[str, Value]
    tried: Sequence[Trial]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON's types."""
        return asdict(self)


@contextmanager
def searching(model: Tuned, data: Dataset, config: LaserConfig, folder: Path, device: torch.device = CPU) -> Iterator[Search]:
    """Give a search, arguments as of `Search`, and keep its folder to this process meanwhile: it clears away what others left.

    Raises:
        CheckpointError: another process makes trials there.
        MissingExtraError: Optuna is not installed.
        ConfigError: the search in the folder departs from other settings.
    """
    with alone(folder / model):
        yield Search(model, data, config, folder, device)


class Search:
    """A search under way; those that were stopped are taken up. Made by `searching`, where other processes may want the same."""

    def __init__(self, model: Tuned, data: Dataset, config: LaserConfig, folder: Path, device: torch.device = CPU) -> None:
        """Open the search, or begin it.

        Args:
            model: what to tune.
            data: its training and validation events are used.
            config: the settings that the search departs from; they are the first trial, so what is found is never worse.
            folder: where the search is kept.
            device: where trials are computed.

        Raises:
            MissingExtraError: Optuna is not installed.
            ConfigError: the search in the folder departs from other settings.
        """
        self._optuna = _optuna()
        self.model, self.data, self.folder, self.device = model, data, folder / model, device
        self.start, self._refits = _start(model, config), config.collaborative.refits
        self._texts: TextVectors | None = None
        self.folder.mkdir(parents=True, exist_ok=True)
        self._study = self._optuna.create_study(
            study_name=f"{model} on {data.fingerprint[:12]}",
            storage=f"sqlite:///{(folder / 'study.db').resolve()}",
            direction="maximize",
            pruner=self._optuna.pruners.MedianPruner(n_startup_trials=WHOLE_TRIALS, n_warmup_steps=_warm_up(model, self.start)),
            load_if_exists=True,
        )
        self._require_same_settings()
        states = self._optuna.trial.TrialState
        self._counted = (states.COMPLETE, states.PRUNED)
        for left in self._study.get_trials(deepcopy=False, states=(states.RUNNING,)):  # of a process that was killed
            self._study.tell(left.number, state=states.FAIL)
        self._given = given = {name: _value(self.start, name) for name in space_of(model)}
        self._space = {name: where.including(given[name]) for name, where in space_of(model).items()}
        if not self.trials and not self._study.get_trials(deepcopy=False, states=(states.WAITING,)):
            self._study.enqueue_trial(given)

    @property
    def trials(self) -> int:
        """Trials made; one that was interrupted does not count."""
        return len(self._study.get_trials(deepcopy=False, states=self._counted))

    @property
    def found(self) -> Tuning:
        """Where the search stands.

        Raises:
            TrainingError: no trial was completed.
        """
        made, complete = self.trials, self._complete
        if not complete:
            fit = "stage1" if self.model == "laser" else "fit_collaborative"
            raise TrainingError(
                f"No trial of {self.model} was completed; start from a lower learning rate: --set {fit}.learning_rate=1e-4."
            )
        best = self._study.best_trial
        given = next((trial.value for trial in complete if trial.params == self._given), None)
        tried = [_tried(trial) for trial in self._study.get_trials(deepcopy=False, states=self._counted)]
        return Tuning(self.model, made, made - len(complete), best.value, given, dict(best.params), tried)

    @property
    def _complete(self) -> list[Any]:
        return self._study.get_trials(deepcopy=False, states=self._counted[:1])  # type: ignore[no-any-return]

    def _require_same_settings(self) -> None:
        """Refuse to go on with a search that departs from other settings: its scores would not be comparable."""
        own: dict[str, Any] = {"settings": self.start.model_dump(mode="json"), "items": self.data.catalogue_digest}
        kept = self._study.user_attrs
        if kept and any(kept.get(key) != value for key, value in own.items()):
            raise ConfigError(
                f"{self.folder} holds a search that departs from other settings, or from other texts of the items. Go on with those, or "
                "choose another folder with --out."
            )
        for key, value in own.items():
            self._study.set_user_attr(key, value)

    def step(self, observers: Sequence[Observer] = ()) -> None:
        """Make one more trial, and write the best settings so far.

        Args:
            observers: who watches the fits.

        Raises:
            InterruptedTraining: Ctrl-C; the trial is made anew by whoever goes on.
        """
        # Seeded by place, so that a search that was stopped goes on as if it had not been.
        self._study.sampler = self._optuna.samplers.TPESampler(seed=self.start.seed + self.trials, n_startup_trials=STARTING_TRIALS)
        self._study.optimize(partial(self._try, observers=observers), n_trials=1)
        if self._complete:
            best = self._settled(self.found.settings)
            refits = best.collaborative.model_copy(update={"refits": self._refits})
            write_json(self.folder / "best.json", best.model_copy(update={"collaborative": refits}).model_dump(mode="json"))

    def _settled(self, values: Mapping[str, Value]) -> LaserConfig:
        return self.start.override([f"{name}={value}" for name, value in values.items()])

    def _try(self, trial: Any, observers: Sequence[Observer]) -> float:  # noqa: ANN401 - Optuna is untyped here
        settings = self._settled({name: _suggest(trial, name, where) for name, where in self._space.items()})
        judge = _Judge("stage1" if self.model == "laser" else self.model, trial, self._optuna)
        shutil.rmtree(self.folder / "trial", ignore_errors=True)
        try:
            if self.model == "laser":
                return self._try_laser(settings, [*observers, judge], judge)
            return self._try_baseline(settings, [*observers, judge])
        except NonFiniteLossError as error:
            raise self._optuna.TrialPruned(str(error)) from error
        finally:
            shutil.rmtree(self.folder / "trial", ignore_errors=True)

    def _try_baseline(self, config: LaserConfig, observers: Sequence[Observer]) -> float:
        settings, learning = config.collaborative, config.fit_collaborative
        if settings.reads_texts and self._texts is None:  # which no trial changes
            reading = Session(self.folder.parent, observers=observers[:-1], device=self.device)
            self._texts = text_vectors(self.data, config.prompt, load_backbone(config, self.device), reading)
        session = Session(self.folder / "trial", observers=observers, device=self.device)
        fitted = fit_collaborative(
            self.data, settings, learning, seed=config.seed, session=session, hold_out=0, name=self.model, texts=self._texts
        )
        return fitted.result.best_score

    def _try_laser(self, config: LaserConfig, observers: Sequence[Observer], judge: _Judge) -> float:
        trial, shared = self.folder / "trial", self.folder / "shared"
        if shared.is_dir():
            shutil.copytree(shared, trial)
        Laser.fit(self.data, config, session=Session(trial, resume=True, observers=observers, device=self.device))
        if not shared.is_dir():
            kept = trial.with_name(".shared")
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(trial, kept, ignore=lambda folder, names: [name for name in names if name.startswith("stage")])
            kept.rename(shared)
        return judge.best.get("stage2", judge.best["stage1"])


class _Judge:
    """Tells Optuna how one of the fits goes, and stops it when it falls behind; notes the best score of each.

    Attributes:
        best: validation score by fit.
    """

    def __init__(self, decisive: str, trial: Any, optuna: Any) -> None:  # noqa: ANN401
        self.decisive, self.trial, self.optuna = decisive, trial, optuna
        self.name, self.best = "", dict[str, float]()

    def begin(self, name: str, steps: int, done: int, history: Sequence[Mapping[str, Any]] = ()) -> None:
        self.name = name

    def on_step(self, step: int, scalars: Mapping[str, float]) -> None:
        """Only epochs count."""

    def on_epoch(self, record: Mapping[str, Any]) -> None:
        score = record["valid"][record["metric"]]
        self.best[self.name] = max(score, self.best.get(self.name, score))
        if self.name == self.decisive:
            self.trial.report(score, record["epoch"])
            if self.trial.should_prune():
                raise self.optuna.TrialPruned

    def end(self) -> None:
        """Nothing is closed."""


def _start(model: Tuned, config: LaserConfig) -> LaserConfig:
    """Return the settings that a model is trained with if nothing is tuned; Laser without its refits, which cost as much again."""
    if model == "laser":
        return config.override(["collaborative.refits=[]"])
    settings, learning = trained_settings(config, model)
    return config.model_copy(update={"collaborative": settings, "fit_collaborative": learning})


def _warm_up(model: Tuned, config: LaserConfig) -> int:
    """Return the epochs of a trial before it may be stopped: a third of those that it may take."""
    epochs = (config.stage1 if model == "laser" else config.fit_collaborative).epochs
    return min(WARM_UP_EPOCHS, max(1, epochs // 3))


def _tried(trial: Any) -> Trial:  # noqa: ANN401 - Optuna is untyped here
    pruned, scores = trial.state.name == "PRUNED", trial.intermediate_values
    score = max(scores.values(), default=None) if pruned else trial.value
    seconds = (trial.datetime_complete - trial.datetime_start).total_seconds()
    return Trial(dict(trial.params), score, max(scores, default=0), seconds, pruned)


def _value(config: LaserConfig, name: str) -> Value:
    section, key = name.split(".")
    value: Value = getattr(getattr(config, section), key)
    return value


def _suggest(trial: Any, name: str, where: Between | OneOf) -> Value:  # noqa: ANN401
    value: Value = (
        trial.suggest_categorical(name, list(where.values))
        if isinstance(where, OneOf)
        else trial.suggest_float(name, where.low, where.high, log=True)
    )
    return value


def _optuna() -> Any:  # noqa: ANN401
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError("optuna", "tune", "A search over settings") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
