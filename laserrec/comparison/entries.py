"""Read the ranks of runs to compare, and of the models below a run; runs that differ in seed alone are one model.

Figures of different splits are not comparable, so all ranks must have the same fingerprint, split and cases.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laserrec.data.dataset import EvaluatedSplit
from laserrec.errors import CheckpointError, DataError
from laserrec.evaluation.metrics import Evaluation, Protocol
from laserrec.laser.folder import seed_runs, to_finish
from laserrec.runs.folder import RunFolder, read_result


@dataclass(frozen=True)
class Entry:
    """One model, trained with one seed or several.

    Attributes:
        name: what tables call it.
        paths: where it lies, a seed each.
        evaluations: its ranks, a seed each, all of the same cases.
        seconds: of training, mean over seeds; 0 for a model that is not trained.
        parameters: trained ones.
        peak_memory: bytes that the process held at most while it trained and evaluated the model; None where no run noted it for this
            model alone.
    """

    name: str
    paths: Sequence[Path]
    evaluations: Sequence[Evaluation]
    seconds: float
    parameters: int
    peak_memory: int | None

    def per_case(self, metric: str, protocol: Protocol) -> NDArray[np.float64]:
        """Return a metric of every case, float64 [R]: the mean over seeds, so that a case counts once."""
        values: NDArray[np.float64] = np.mean([evaluation.per_case(metric, protocol) for evaluation in self.evaluations], axis=0)
        return values

    def deviation(self, metric: str, protocol: Protocol) -> float | None:
        """Return the standard deviation of a metric from seed to seed; None for one seed."""
        if len(self.evaluations) < 2:
            return None
        return float(np.std([evaluation.per_case(metric, protocol).mean() for evaluation in self.evaluations], ddof=1))


@dataclass(frozen=True)
class _Read:
    path: Path
    owner: RunFolder
    evaluation: Evaluation
    seconds: float
    parameters: int
    peak_memory: int | None

    @property
    def recipe(self) -> dict[str, Any]:
        """Model, settings and catalogue, which two runs of one model with different seeds share."""
        about = self.evaluation.about
        settings = self.owner.config.identity
        del settings["seed"]
        catalogue = self.owner.about["data"]["catalogue"]
        return {"model": about.get("model"), "settings": about.get("settings", settings), "catalogue": catalogue}


def read_entries(paths: Sequence[Path], split: EvaluatedSplit) -> list[Entry]:
    """Read the ranks of runs.

    Args:
        paths: folders of runs, of models below one, or of seeds of either; a folder of baselines counts as all of them. A model that two
            folders hold is read once.
        split: which cases.

    Returns:
        One entry a model, in the order given; runs that differ in nothing but the seed are one entry.

    Raises:
        DataError: no folder is given, one holds no ranks or is named twice, the first is of several models, or two belong to different
            splits or cases.
        CheckpointError: a folder belongs to no run.
    """
    if not paths:
        raise DataError("Received no folder. Name the runs that are to be read.")
    if len({path.resolve() for path in paths}) < len(paths):
        raise DataError(f"Received {', '.join(map(str, paths))}; a run was named twice. Name each once.")
    read: list[_Read] = []
    for place, path in enumerate(paths):
        known = {one.path.resolve() for one in read}
        read += [_read(model, split) for model in _models(path, split) if model.resolve() not in known]
        if place == 0:
            _require_one_model(path, read)
    for other in read[1:]:
        _require_same_cases(read[0], other)
    groups = _grouped(read)
    names = Counter(str(group[0].evaluation.about["model"]) for group in groups)
    return [_entry(group, names) for group in groups]


def _require_one_model(first: Path, read: Sequence[_Read]) -> None:
    groups = _grouped(read)
    if len(groups) > 1:
        held = ", ".join(str(group[0].path) for group in groups)
        example = shlex.join(str(one.path) for one in groups[0])
        raise DataError(
            f"{first} holds several models: {held}. The first folder must hold the one model that is tested against the others: "
            f"name its folder first, such as {example}"
        )


def _grouped(read: Sequence[_Read]) -> list[list[_Read]]:
    """Group runs that differ in their seed alone: one list a model."""
    groups: list[list[_Read]] = []
    for one in read:
        for group in groups:
            # Two runs of the same settings and seed are two models: averaging them would count one draw twice.
            if group[0].recipe == one.recipe and all(member.owner.config.seed != one.owner.config.seed for member in group):
                group.append(one)
                break
        else:
            groups.append([one])
    return groups


def _entry(group: Sequence[_Read], names: Counter[str]) -> Entry:
    model = str(group[0].evaluation.about["model"])
    paths = [one.path for one in group]
    # All seeds of a folder are named by it: rows of five paths are too wide to read.
    places = [paths[0].parent] if len(paths) > 1 and set(seed_runs(paths[0].parent)) == set(paths) else paths
    name = model if names[model] == 1 else f"{model} ({', '.join(map(str, places))})"
    peaks = [one.peak_memory for one in group if one.peak_memory]
    return Entry(
        name,
        paths,
        [one.evaluation for one in group],
        float(np.mean([one.seconds for one in group])),
        group[0].parameters,
        max(peaks, default=None),
    )


def _models(path: Path, split: EvaluatedSplit) -> list[Path]:
    """Return the models that a folder of seeds or of baselines holds; any other folder is one itself, and so is a run with seeds below."""
    if not (path / "run.json").is_file():
        return [model for seed in seed_runs(path) for model in _models(seed, split)] or [path]
    if (path / "model").is_dir():
        return [path]
    return sorted(ranks.parent for ranks in path.glob(f"*/ranks-{split}.parquet")) or [path]


def _read(path: Path, split: EvaluatedSplit) -> _Read:
    owner = _owner(path)
    if owner.path == path:
        if not owner.ranks(split).is_file():
            if (path / "model").is_dir():
                raise DataError(f"{path} was not evaluated on {split}. Evaluate it there with `laserrec evaluate`.")
            raise DataError(f"{path} holds no ranks of {split}: it has not got so far, or its dataset has no such cases. {to_finish(path)}")
        result = read_result(owner, split)
        # A demonstration's peak is that of all its models.
        alone = not (path / "results.json").is_file()
        return _Read(path, owner, result.evaluation, result.seconds, result.parameters, owner.about.get("peak_memory") if alone else None)
    ranks = path / f"ranks-{split}.parquet"
    if not ranks.is_file():
        raise DataError(
            f"{path} holds no ranks of {split}. Give folders that `laserrec train` or `laserrec baseline` wrote, or of models below one."
        )
    evaluation = Evaluation.load(ranks)
    about = evaluation.about
    if not {"model", "seconds", "parameters"} <= about.keys():
        raise DataError(f"{ranks} does not say which model it is of. Give the folder of a run.")
    return _Read(path, owner, evaluation, about["seconds"], about["parameters"], about.get("peak_memory"))


def _require_same_cases(first: _Read, other: _Read) -> None:
    ours = first.evaluation
    theirs = other.evaluation
    fingerprints = [str(evaluation.about.get("fingerprint")) for evaluation in (ours, theirs)]
    if fingerprints[0] != fingerprints[1]:
        raise DataError(
            f"{first.path} was evaluated on {ours.about.get('dataset')!r}, fingerprint {fingerprints[0][:12]}…, {other.path} on "
            f"{theirs.about.get('dataset')!r}, {fingerprints[1][:12]}…. Figures of different splits are not comparable: "
            "train both on the same dataset."
        )
    if not (np.array_equal(ours.users, theirs.users) and np.array_equal(ours.targets, theirs.targets)):
        raise DataError(f"{first.path} and {other.path} were not evaluated on the same cases. Evaluate both again with laserrec evaluate.")


def dataset_path(entries: Sequence[Entry]) -> Path:
    """Return where the compared runs' dataset lies.

    Raises:
        DataError: it is not where any run says.
    """
    owners = [_owner(path) for entry in entries for path in entry.paths]
    for owner in owners[:-1]:
        with suppress(DataError):
            return owner.data_path
    return owners[-1].data_path


def _owner(path: Path) -> RunFolder:
    """Open the run that a folder is, or lies in."""
    if not path.exists():
        raise CheckpointError(f"There is no folder {path}. Give the folder that `laserrec train` wrote.")
    owner = path if (path / "run.json").is_file() else path.resolve().parent
    if not (owner / "run.json").is_file():
        raise CheckpointError(
            f"{path} is neither a run nor a model below one: neither it nor {owner} holds a run.json. Give a folder that "
            "`laserrec train`, `laserrec baseline` or `laserrec demo` wrote."
        )
    return RunFolder.open(owner)
