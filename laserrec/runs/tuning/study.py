"""A search over settings, by Optuna: resumable, with pruning, and the same budget for every model.

    <folder>/study.db              every trial, in Optuna's own storage; shared by all models of the folder
    <folder>/<model>/best.json     the best settings so far, as a settings file
    <folder>/<model>/trial/        fits of the trial under way, removed at its end
    <folder>/<model>/shared/       what all trials of Laser have in common: its sequential recommender

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

from laserrec.baselines.sequential import SequentialBaseline
from laserrec.config import LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.errors import ConfigError, MissingExtraError, NonFiniteLossError, TrainingError
from laserrec.runs.tuning.space import Between, OneOf, Value, space_of
from laserrec.system.devices import CPU
from laserrec.system.files import alone, write_json
from laserrec.system.progress import Observer
from laserrec.training.context import FitContext
from laserrec.training.pipeline import run_stages, trained_stages
from laserrec.training.text_vectors import TextVectors

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
def searching(
    baseline: SequentialBaseline | None, data: Dataset, config: LaserConfig, folder: Path, device: torch.device = CPU
) -> Iterator[Search]:
    """Give a search, arguments as of `Search`, and keep its folder to this process meanwhile: it clears away what others left.

    Raises:
        CheckpointError: another process makes trials there.
        MissingExtraError: Optuna is not installed.
        ConfigError: the search in the folder departs from other settings.
    """
    with alone(folder / _name(baseline)):
        yield Search(baseline, data, config, folder, device)


class Search:
    """A search under way; those that were stopped are taken up. Made by `searching`, where other processes may want the same."""

    def __init__(
        self, baseline: SequentialBaseline | None, data: Dataset, config: LaserConfig, folder: Path, device: torch.device = CPU
    ) -> None:
        """Open the search, or begin it.

        Args:
            baseline: what to tune; Laser itself when None.
            data: its training and validation events are used.
            config: the settings that the search departs from; they are the first trial, so what is found is never worse.
            folder: where the search is kept.
            device: where trials are computed.

        Raises:
            MissingExtraError: Optuna is not installed.
            ConfigError: the search in the folder departs from other settings.
        """
        self._optuna = _optuna()
        self.baseline, self.model, self.data, self.device = baseline, _name(baseline), data, device
        self.folder, self.start, self._refits = folder / self.model, _start(baseline, config), config.collaborative.refits
        self._vectors: TextVectors | None = None  # which no trial changes
        self.folder.mkdir(parents=True, exist_ok=True)
        self._study = self._optuna.create_study(
            study_name=f"{self.model} on {data.fingerprint[:12]}",
            storage=f"sqlite:///{(folder / 'study.db').resolve()}",
            direction="maximize",
            pruner=self._optuna.pruners.MedianPruner(n_startup_trials=WHOLE_TRIALS, n_warmup_steps=_warm_up(baseline, self.start)),
            load_if_exists=True,
        )
        self._require_same_settings()
        states = self._optuna.trial.TrialState
        self._counted = (states.COMPLETE, states.PRUNED)
        for left in self._study.get_trials(deepcopy=False, states=(states.RUNNING,)):  # of a process that was killed
            self._study.tell(left.number, state=states.FAIL)
        self._given = given = {name: _value(self.start, name) for name in space_of(baseline)}
        self._space = {name: where.including(given[name]) for name, where in space_of(baseline).items()}
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
            rate = f"{'stage1' if self.baseline is None else 'fit_collaborative'}.learning_rate"
            raise TrainingError(
                f"No trial of {self.model} was completed; start from a lower learning rate, such as {rate}=1e-4.", parameters=[rate]
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
                "choose another folder.",
                parameters=["out"],
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
        judge = _Judge("stage1" if self.baseline is None else self.model, trial, self._optuna)
        shutil.rmtree(self.folder / "trial", ignore_errors=True)
        try:
            context = FitContext(
                self.data, settings, self.folder / "trial", observers=[*observers, judge], device=self.device, vectors=self._vectors
            )
            return self._try_laser(context) if self.baseline is None else self._try_baseline(self.baseline, context)
        except NonFiniteLossError as error:
            raise self._optuna.TrialPruned(str(error)) from error
        finally:
            shutil.rmtree(self.folder / "trial", ignore_errors=True)

    def _try_baseline(self, baseline: SequentialBaseline, context: FitContext) -> float:
        run_stages(baseline.stages(context.config), context)
        self._vectors = context.vectors
        return context.fits[baseline.name].score

    def _try_laser(self, context: FitContext) -> float:
        trial, shared = self.folder / "trial", self.folder / "shared"
        if shared.is_dir():
            shutil.copytree(shared, trial)
        run_stages(trained_stages(context.config), context)
        if not shared.is_dir():
            kept = trial.with_name(".shared")
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(trial, kept, ignore=lambda folder, names: [name for name in names if name.startswith("stage")])
            kept.rename(shared)
        *_, last = context.stages.values()
        return last.best_score


class _Judge(Observer):
    """Reports to Optuna how one of the fits goes, and stops it when it falls behind."""

    def __init__(self, decisive: str, trial: Any, optuna: Any) -> None:  # noqa: ANN401
        self.decisive, self.trial, self.optuna, self.name = decisive, trial, optuna, ""

    def begin(self, name: str, steps: int, done: int, history: Sequence[Mapping[str, Any]] = ()) -> None:
        self.name = name

    def on_epoch(self, record: Mapping[str, Any]) -> None:
        if self.name == self.decisive:
            self.trial.report(record["valid"][record["metric"]], record["epoch"])
            if self.trial.should_prune():
                raise self.optuna.TrialPruned


def _name(baseline: SequentialBaseline | None) -> str:
    return "laser" if baseline is None else baseline.name


def _start(baseline: SequentialBaseline | None, config: LaserConfig) -> LaserConfig:
    """Return the settings that a model is trained with if nothing is tuned; Laser without its refits, which cost as much again."""
    if baseline is None:
        return config.override(["collaborative.refits=[]"])
    settings, learning = baseline.settings(config)
    return config.model_copy(update={"collaborative": settings, "fit_collaborative": learning})


def _warm_up(baseline: SequentialBaseline | None, config: LaserConfig) -> int:
    """Return the epochs of a trial before it may be stopped: a third of those that it may take."""
    epochs = (config.stage1 if baseline is None else config.fit_collaborative).epochs
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
