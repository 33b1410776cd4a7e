"""A fit small enough to follow: ten points and one linear layer, and who watches it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from laserrec.config import FitConfig
from laserrec.system.progress import Observer
from laserrec.training.loop import FitResult, Step, fit

ROWS = 10


class Regression:
    """Ten points, one linear layer; a buffer that each epoch rewrites; validation scores told beforehand or measured."""

    def __init__(self, scores: Sequence[float] | None = None, rows: int = ROWS, dropout: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(1)
        self.inputs = torch.randn(rows, 4, generator=generator)
        self.targets = self.inputs @ torch.tensor([1.0, -2.0, 3.0, 0.5]) + 1
        self.module = nn.Sequential(nn.Dropout(dropout), nn.Linear(4, 1))
        self.module.register_buffer("epoch", torch.tensor(0))
        with torch.no_grad():
            for parameter in self.module.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        self.scores, self.seen, self.validated = scores, list[list[int]](), 0

    def __len__(self) -> int:
        return len(self.inputs)

    def start_epoch(self, epoch: int) -> None:
        self.module.epoch.fill_(epoch)

    def step(self, rows: Tensor, epoch: int) -> Step:
        assert self.module.training
        assert self.module.epoch == epoch
        self.seen.append(rows.tolist())
        loss = self.loss(self.module(self.inputs[rows])[:, 0] - self.targets[rows])
        return Step(loss, {"rows": float(rows.float().mean())}, len(rows))

    def loss(self, errors: Tensor) -> Tensor:
        return errors.square().mean()

    def validate(self) -> dict[str, float]:
        self.module.eval()
        self.validated += 1
        with torch.no_grad():
            measured = -float((self.module(self.inputs)[:, 0] - self.targets).square().mean())
        return {"score": measured if self.scores is None else self.scores[self.validated - 1]}


class Poisoned(Regression):
    """Breaks at its sixth step."""

    def __init__(self, factor: float = math.nan) -> None:
        super().__init__()
        self.factor = factor

    def loss(self, errors: Tensor) -> Tensor:
        return super().loss(errors) * (self.factor if len(self.seen) == 6 else 1)


@dataclass
class Watcher(Observer):
    """Remembers what it was told, and does something at a step."""

    at: Mapping[int, Callable[[], object]] = field(default_factory=dict)
    steps: dict[int, Mapping[str, float]] = field(default_factory=dict)
    epochs: list[int] = field(default_factory=list)
    begun: list[tuple[str, int, int]] = field(default_factory=list)
    earlier: list[int] = field(default_factory=list)
    ended: int = 0

    def begin(self, name: str, steps: int, done: int, history: Sequence[Mapping[str, Any]] = ()) -> None:
        self.begun.append((name, steps, done))
        self.earlier = [record["epoch"] for record in history]

    def on_step(self, step: int, scalars: Mapping[str, float]) -> None:
        self.steps[step] = scalars
        self.at.get(step, lambda: None)()

    def on_epoch(self, record: Mapping[str, Any]) -> None:
        self.epochs.append(record["epoch"])

    def end(self) -> None:
        self.ended += 1


class Stop(Exception):  # noqa: N818 - not an error
    """Somebody pulled the plug."""


def pull() -> None:
    raise Stop


def run(
    folder: Path | None,
    task: Regression,
    *,
    resume: bool = False,
    watcher: Watcher | None = None,
    seed: int = 0,
    **settings: Any,  # noqa: ANN401
) -> FitResult:
    how = {key: settings.pop(key) for key in ("micro_batch", "checkpoint_seconds") if key in settings}
    values = {"epochs": 3, "batch_size": 4, "learning_rate": 0.01, "metric": "score", "patience": 9, **settings}
    return fit(
        task,
        FitConfig(**values),
        name="line",
        seed=seed,
        folder=folder,
        identity={"data": "x"},
        resume=resume,
        observers=[watcher] if watcher else [],
        **{"checkpoint_seconds": 0, **how},
    )


def weights(task: Regression) -> list[float]:
    return [*task.module[1].weight[0].tolist(), *task.module[1].bias.tolist()]  # type: ignore[union-attr,operator]
