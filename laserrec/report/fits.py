"""Read how each fit of a run went, from its log of epochs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from laserrec.errors import CheckpointError
from laserrec.runs.folder import RunFolder

LOG = "metrics.jsonl"
FIRST = ("collaborative", "stage1", "stage2")
"""The fits that every run has, in the order of training."""


@dataclass(frozen=True)
class Epoch:
    """One epoch of a fit.

    Attributes:
        number: 0 for the weights that the fit starts from.
        train: what the epoch logged of its steps, such as the mean loss; empty for epoch 0.
        valid: validation metrics after it.
    """

    number: int
    train: Mapping[str, float]
    valid: Mapping[str, float]

    @property
    def loss(self) -> float | None:
        """Mean loss over the epoch's steps; None for epoch 0."""
        return self.train.get("loss")


@dataclass(frozen=True)
class Fit:
    """One fit.

    Attributes:
        name: its folder below the run.
        metric: the validation metric that chooses the best epoch.
        epochs: in order.
        seconds: that it took.
    """

    name: str
    metric: str
    epochs: Sequence[Epoch]
    seconds: float

    @property
    def best(self) -> Epoch:
        """The epoch whose weights were kept: of equal ones the first."""
        return max(self.epochs, key=lambda epoch: epoch.valid[self.metric])


def read_fits(run: RunFolder) -> list[Fit]:
    """Read the logs below a run: its own fits first, then those of the models beside it.

    Raises:
        CheckpointError: a log is damaged.
    """
    paths = {path.parent.relative_to(run.path).as_posix(): path for path in run.path.rglob(LOG)}
    order = sorted(paths, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))
    return [_read(name, paths[name]) for name in order]


def _read(name: str, path: Path) -> Fit:
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        epochs = [Epoch(int(record["epoch"]), dict(record["train"]), record["valid"]) for record in records]
        return Fit(name, records[-1]["metric"], epochs, float(records[-1]["seconds"]))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a log of epochs: {error!r}. It is written anew when the run is resumed.") from error
