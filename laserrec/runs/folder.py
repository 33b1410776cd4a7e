"""A run on disk: what was trained on what, with which settings, and where its results lie.

    run.json                 dataset (path, name, fingerprint), command line, settings, versions, machine, times, what was predicted of them
    config.json              the settings, as a settings file
    <fit>/                   checkpoint and metrics.jsonl of each fit
    model/                   the trained model
    ranks-<split>.parquet     the target's rank of every case

Knows nothing of commands and of what is printed.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import UnionType
from typing import Any, Self, get_args

import torch

from laserrec import __version__
from laserrec.assets.hub import HUB
from laserrec.config import ROUNDING, LaserConfig
from laserrec.data.dataset import Dataset, EvaluatedSplit
from laserrec.errors import CheckpointError, ConfigError, DataError
from laserrec.evaluation.metrics import PROTOCOLS, Evaluation
from laserrec.laser.folder import model_of, refuse_seeds, seed_runs
from laserrec.llm.loading import located
from laserrec.recommender import Laser
from laserrec.runs.estimate import Compared, Plan, compare
from laserrec.system.atomic import ENDING, remove_leftovers
from laserrec.system.cache import texts_folder
from laserrec.system.devices import CPU, describe
from laserrec.system.files import read_json, write_json
from laserrec.system.progress import Observer
from laserrec.system.provenance import environment
from laserrec.system.resources import folder_bytes, peak_memory
from laserrec.training.observers import PhaseClock
from laserrec.training.strategy import ALONE, Strategy

EVALUATED_SPLITS: tuple[EvaluatedSplit, ...] = get_args(EvaluatedSplit)
FORMAT = 4
_DATA = {"name", "fingerprint", "catalogue", "path", "absolute"}
_ABOUT: Mapping[str, type | UnionType] = {
    "command": list,
    "config": dict,
    "data": dict,
    "finished": str | None,
    "seconds": int | float,
    "threads": int,
}
"""What run.json always holds, and of which type."""


@dataclass(frozen=True)
class Result:
    """How a model did, and what it cost.

    Attributes:
        evaluation: its ranks on one split of one dataset.
        seconds: of training and validation, counting and blending too; 0 for a model that takes none.
        parameters: trained ones.
    """

    evaluation: Evaluation
    seconds: float
    parameters: int

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the ranks, for JSON."""
        figures = {protocol: self.evaluation.metrics(protocol) for protocol in PROTOCOLS}
        return {
            **self.evaluation.about,
            "cases": len(self.evaluation),
            "metrics": figures,
            "seconds": self.seconds,
            "parameters": self.parameters,
        }


class RunFolder:
    """One run; `begin` and `open` are the ways to get it.

    Attributes:
        path: the folder.
        config: the run's settings.
        about: what run.json holds.
    """

    def __init__(self, path: Path, config: LaserConfig, about: Mapping[str, Any]) -> None:
        """Take a run's description; nothing is read or written."""
        self.path, self.config, self.about = path, config, dict(about)

    @classmethod
    def begin(
        cls,
        path: Path,
        config: LaserConfig,
        data: Dataset,
        data_path: Path,
        *,
        command: Sequence[str],
        resume: bool = False,
        plan: Plan | None = None,
    ) -> Self:
        """Start a run, or take up the one that is there.

        Args:
            path: the run's folder; made when it does not exist.
            config: the settings.
            data: the dataset.
            data_path: where the dataset lies.
            command: the command line, for the record.
            resume: a run that is there is continued; otherwise the folder must be empty.
            plan: what is predicted of a new run; `config` is then the plan's.

        Raises:
            ConfigError: the folder is not empty, or holds a run with other settings or data, or those of several seeds.
        """
        if config.start is not None and not config.start.startswith(HUB):  # the run may be continued from elsewhere
            config = config.model_copy(update={"start": str(Path(config.start).resolve())})
        config = located(config)
        if cls.occupied(path, resume=resume):
            if seed_runs(path) and not (path / "run.json").is_file():
                raise ConfigError(
                    f"{path} holds a run for each of several seeds. Continue all of them, or choose another folder.",
                    parameters=["seeds", "out"],
                )
            run = cls.open(path)
            run._require(config, data)
            remove_leftovers(path)
            if not (path / "config.json").is_file():  # the process that began the run was killed just before it wrote this
                write_json(path / "config.json", run.config.model_dump(mode="json"))
            run.config = run.config.model_copy(update={"runtime": config.runtime.over(run.config.runtime)})
            return run
        about = {
            "format": FORMAT,
            "version": __version__,
            "environment": environment(),
            "command": list(command),
            "data": {
                "name": data.name,
                "fingerprint": data.fingerprint,
                "catalogue": data.catalogue_digest,
                "path": os.path.relpath(data_path.resolve(), path.resolve()),
                "absolute": str(data_path.resolve()),
            },
            "config": config.model_dump(mode="json"),
            "threads": torch.get_num_threads(),
            "started": _now(),
            "finished": None,
            "seconds": 0.0,
        }
        if plan is not None:
            about["plan"] = plan.as_dict()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"Cannot make the run's folder {path}: {error}") from error
        run = cls(path, config, about)
        write_json(path / "run.json", about)
        write_json(path / "config.json", config.model_dump(mode="json"))
        return run

    @staticmethod
    def occupied(path: Path, *, resume: bool) -> bool:
        """Return whether there is something in a run's folder, beside what a process killed before the run began has left.

        Raises:
            ConfigError: there is, and nothing is to be resumed; or the folder cannot be read.
        """
        try:
            occupied = path.exists() and any(
                not (name.name.startswith(".") and name.suffix in {ENDING, ".lock"}) for name in path.iterdir()
            )
        except OSError as error:
            raise ConfigError(f"Cannot make the run's folder {path}: {error}") from error
        if occupied and not resume:
            message = f"{path} exists and is not empty. Choose another folder, or continue the run in it."
            raise ConfigError(message, parameters=["out", "resume"])
        return occupied

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read a run.

        Raises:
            CheckpointError: the folder does not exist, or holds no run, or those of several seeds.
        """
        if not (path / "run.json").is_file():
            refuse_seeds(path)
            state = "is not a run: it holds no run.json" if path.is_dir() else "does not exist"
            raise CheckpointError(f"{path} {state}. Give the folder that a training wrote.")
        about = read_json(path / "run.json")
        if about.get("format") != FORMAT:
            raise CheckpointError(f"{path / 'run.json'} does not describe a run of this version (format {FORMAT}).")
        wrong = [name for name, kinds in _ABOUT.items() if not isinstance(about.get(name), kinds)]
        if not wrong:
            wrong = [f"data.{name}" for name in sorted(_DATA) if not isinstance(about["data"].get(name), str)]
        if wrong:
            raise CheckpointError(
                f"{path / 'run.json'} is damaged: {', '.join(wrong)} is missing or of the wrong type. Restore it from a copy."
            )
        return cls(path, LaserConfig.build("default", about["config"], source=str(path / "run.json")), about)

    @property
    def finished(self) -> bool:
        """Whether everything is trained and evaluated."""
        return self.about.get("finished") is not None

    @property
    def model(self) -> Path:
        """Where the trained model lies.

        Raises:
            CheckpointError: training did not get so far.
        """
        return model_of(self.path)

    def ranks(self, split: EvaluatedSplit) -> Path:
        """Where the ranks of a split lie once it is evaluated."""
        return self.path / f"ranks-{split}.parquet"

    @property
    def data_path(self) -> Path:
        """Where the dataset lies: as seen from the run, or where it lay when the run began.

        Raises:
            DataError: it is in neither place.
        """
        places: list[Path] = [(self.path / self.about["data"]["path"]).resolve(), Path(self.about["data"]["absolute"])]
        for place in places:
            if (place / "manifest.json").is_file():
                return place
        where = " nor ".join(dict.fromkeys(map(str, places)))
        raise DataError(f"The dataset of {self.path} is not at {where}. Say where it is.", parameters=["data"])

    def dataset(self, path: Path | None = None) -> Dataset:
        """Load the run's dataset.

        Args:
            path: where it lies now, when it was moved.

        Raises:
            DataError: it cannot be found, or has another fingerprint than the one the run was trained on.
        """
        path = path or self.data_path
        data, trained = Dataset.load(path), self.about["data"]
        if data.fingerprint != trained["fingerprint"]:
            raise DataError(
                f"{path} has fingerprint {data.fingerprint[:12]}…; {self.path} was trained on {trained['name']!r}, "
                f"{trained['fingerprint'][:12]}…. "
                "Figures of different splits are not compared: give the run's dataset, or train on this one.",
                parameters=["data"],
            )
        return data

    @contextmanager
    def work(self, device: torch.device = CPU, threads: int | None = None) -> Iterator[PhaseClock]:
        """Do what is inside as the run was begun, and note on what device and what it took, also when it is interrupted or fails.

        Yields an observer for the run's fits, which notes what each of them took.

        The order of a sum, and so its last bits, depends on the number of threads: a run keeps the number it was begun with, as far as this
        machine has that many, unless `threads` names another. A finished run's seconds stay as they are.
        """
        began, own, begun, clock = (
            time.monotonic(),
            torch.get_num_threads(),
            threads or self.about.get("threads"),
            PhaseClock(self.about.get("phases", {})),
        )
        if isinstance(begun, int) and 1 <= begun <= (os.cpu_count() or 1):
            torch.set_num_threads(begun)
        if "begun_on" not in self.about:
            self._note(begun_on=device.type)
        try:
            yield clock
        finally:
            torch.set_num_threads(own)
            if not self.finished:
                seconds, peak = self.about["seconds"] + time.monotonic() - began, max(self.about.get("peak_memory", 0), peak_memory(device))
                self._note(seconds=seconds, phases=clock.phases, peak_memory=peak, device=describe(device))

    def rounded_otherwise(self, device: torch.device | None) -> list[str]:
        """Return what a resumed run computes otherwise than it was begun, in words: it may end in other last digits.

        Args:
            device: where it goes on; None if that is a cluster, whose workers choose devices and threads later.
        """
        begun, now = self.about["config"]["runtime"], self.config.runtime
        pairs = {f"runtime.{name}": (begun[name], getattr(now, name)) for name in ROUNDING}
        if device is not None:
            pairs["device"] = self.about.get("begun_on", device.type), device.type
            pairs["threads"] = self.about["threads"], min(self.about["threads"], os.cpu_count() or 1)
        return [f"{name} = {after} (begun with {before})" for name, (before, after) in pairs.items() if before != after]

    def finish(self) -> None:
        """Note that everything is trained and evaluated; the first time counts."""
        if not self.finished:
            texts = folder_bytes(texts_folder()) - self.about["plan"]["disk"]["texts_before"] if "plan" in self.about else 0
            self._note(finished=_now(), texts_bytes=texts, run_bytes=folder_bytes(self.path))

    @property
    def compared(self) -> list[Compared]:
        """What was predicted of a finished run beside what it took; empty for a run without a plan."""
        if not (self.finished and "plan" in self.about):
            return []
        try:
            return compare(self.about["plan"], self.about)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"{self.path / 'run.json'} is damaged: its plan cannot be compared with what was measured ({error!r}). "
                "Restore it from a copy."
            ) from error

    def _note(self, **changes: object) -> None:
        self.about |= changes
        write_json(self.path / "run.json", self.about)

    def _require(self, config: LaserConfig, data: Dataset) -> None:
        """Refuse settings or data that are not this run's."""
        trained = self.about["data"]
        if data.fingerprint != trained["fingerprint"]:
            raise ConfigError(
                f"{self.path} was begun on {trained['name']!r} (fingerprint {trained['fingerprint'][:12]}…); received {data.name!r} "
                f"({data.fingerprint[:12]}…). Resume with the same data, or choose another folder.",
                parameters=["data", "out"],
            )
        if data.catalogue_digest != trained["catalogue"]:
            raise ConfigError(
                f"{self.path} was begun with other texts, or another order, of the items of {trained['name']!r}. Resume with the dataset "
                "as it was, or choose another folder.",
                parameters=["data", "out"],
            )
        own, received = flat_settings(located(self.config).identity), flat_settings(config.identity)
        changed = [f"{key} = {received[key]!r} (the run's: {own[key]!r})" for key in own if own[key] != received[key]]
        if changed:
            raise ConfigError(
                f"{self.path} was begun with other settings: received {', '.join(changed)}. Resume with the same settings or name none, "
                "or choose another folder.",
                parameters=["out"],
            )


def train_run(
    run: RunFolder, data: Dataset, observers: Sequence[Observer] = (), device: torch.device = CPU, strategy: Strategy = ALONE
) -> Laser:
    """Train what is left of a run, save its model, evaluate it, and keep the ranks.

    Args:
        run: new or interrupted; the model of a finished one is loaded, and nothing is evaluated again.
        data: its dataset.
        observers: who watches.
        device: where it is computed.
        strategy: the processes that train together; the main one saves and evaluates.

    Raises:
        InterruptedTraining: Ctrl-C; call again to continue.
    """
    if run.finished:
        return Laser.load(run.model, device=device)
    laser = Laser.fit(data, run.config, folder=run.path, observers=observers, device=device, strategy=strategy)
    if strategy.main:
        _keep(run, laser, data)
    return laser


def transfer_run(
    path: Path,
    source: str | Path,
    data: Dataset,
    data_path: Path,
    *,
    command: Sequence[str],
    observers: Sequence[Observer] = (),
    device: torch.device = CPU,
) -> RunFolder:
    """Carry a model over to a dataset without training and evaluate it, in a run's folder that appears only when complete.

    Args:
        path: the run's folder.
        source: the model.
        data: the dataset.
        data_path: where the dataset lies.
        command: the command line, for the record.
        observers: who watches.
        device: where it is computed.

    Raises:
        ConfigError: the folder is not empty.
    """
    RunFolder.occupied(path, resume=False)
    laser = Laser.transfer(source, data, observers=observers, device=device)
    aside = path.with_name(f".{path.name}.transfer")  # beside it, so that what lies relative to the run stays so
    shutil.rmtree(aside, ignore_errors=True)
    run = RunFolder.begin(aside, laser.config, data, data_path, command=command)
    with run.work(device):
        _keep(run, laser, data)
    run.finish()
    os.replace(aside, path)  # an empty folder gives way
    return RunFolder.open(path)


def _keep(run: RunFolder, laser: Laser, data: Dataset) -> None:
    laser.save(run.path / "model")
    for split in EVALUATED_SPLITS:
        if len(data.cases(split)):
            evaluate_run(run, laser, data, split)


def evaluate_run(run: RunFolder, laser: Laser, data: Dataset, split: EvaluatedSplit) -> None:
    """Evaluate a run's model on a split of its dataset, and keep the ranks."""
    laser.evaluate(data, split).save(run.ranks(split), data.user_ids, data.item_ids)


def read_result(run: RunFolder, split: EvaluatedSplit) -> Result:
    """Return how a run's model did on a split that was evaluated.

    Raises:
        DataError: it was not.
        CheckpointError: the run has no model.
    """
    costs = read_json(run.model / "laser.json").get("costs")
    evaluation = Evaluation.load(run.ranks(split))
    try:
        seconds, parameters = (sum(cost[what] for cost in costs.values()) for what in ("seconds", "parameters"))  # type: ignore[union-attr]
        return Result(evaluation, seconds, parameters)
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{run.model / 'laser.json'} is damaged: it has no costs of training ({error!r}).") from error


def read_results(run: RunFolder) -> list[Result]:
    """Return how a run's model did on every split that was evaluated."""
    return [read_result(run, split) for split in EVALUATED_SPLITS if run.ranks(split).is_file()]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def flat_settings(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings with names such as stage1.epochs."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flat_settings(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat
