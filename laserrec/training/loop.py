"""The one training loop: accumulation, clipping, warm-up, early stopping, exact resume.

Knows nothing of recommendation: a `Trainable` brings the model, the rows and the validation.

A run is a pure function of (weights, seed, rows). The order of rows is drawn from (seed, epoch) and the noise of a step from
(seed, step), so no generator's state has to survive: a checkpoint is the weights, the optimiser's moments and where we stand.
That is what makes a resumed run bit-identical to an uninterrupted one on the same machine.

Several processes may train together (`training.strategy`). Each holds everything and computes its share of a batch's shards; the noise of a
shard is drawn from (seed, step, shard), so neither the number of processes nor a change of it on resuming shows in the outcome.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from laserrec.config import FitConfig
from laserrec.errors import CheckpointError, ConfigError, InterruptedTraining, NonFiniteLossError, TrainingError
from laserrec.system.files import alone, read_tensors, write_tensors
from laserrec.system.progress import Observer
from laserrec.training.interrupt import Interrupt, deferred_interrupt
from laserrec.training.strategy import ALONE, Strategy

CHECKPOINT = "checkpoint.safetensors"
FORMAT = 3
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Step:
    """What one forward pass gives.

    Attributes:
        loss: what is minimised, a scalar that averages over something: rows, positions.
        scalars: named figures for the log, detached.
        weight: over how many of them, so that micro-batches together give what the whole batch gives.
    """

    loss: Tensor
    scalars: Mapping[str, float]
    weight: float


class Trainable(Protocol):
    """What the loop trains."""

    @property
    def module(self) -> nn.Module:
        """Everything that changes: its trained parameters and its persistent buffers."""

    def __len__(self) -> int:
        """Number of training rows."""

    def start_epoch(self, epoch: int) -> None:
        """Prepare epoch `epoch`, counted from 1; what it computes is kept in buffers of `module`."""

    def step(self, rows: Tensor, epoch: int) -> Step:
        """Run the model forward on rows int64 [B]."""

    def validate(self) -> dict[str, float]:
        """Return validation metrics of the present weights; larger is better."""


@dataclass
class Progress:
    """Where a fit stands; lives in the checkpoint's header."""

    epoch: int = 0
    """Epochs completed and validated."""
    position: int = 0
    """Optimiser steps made in the epoch under way."""
    step: int = 0
    """Optimiser steps made altogether."""
    best_epoch: int = 0
    best_score: float = -math.inf
    sums: dict[str, float] = field(default_factory=dict)
    """Sums of the step's scalars over the epoch under way."""
    history: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class FitResult:
    """What a finished fit leaves, beside the best weights in the module.

    Attributes:
        best_epoch: the epoch whose weights were kept; 0 for the weights it started from.
        best_score: their validation score.
        history: one record an epoch.
        seconds: wall time of training and validation, over all resumptions.
    """

    best_epoch: int
    best_score: float
    history: Sequence[Mapping[str, Any]]
    seconds: float


def fit(
    task: Trainable,
    config: FitConfig,
    *,
    name: str,
    seed: int,
    folder: Path | None,
    identity: Mapping[str, Any],
    resume: bool = False,
    observers: Sequence[Observer] = (),
    micro_batch: int | None = None,
    checkpoint_seconds: float = 60.0,
    strategy: Strategy = ALONE,
    shards: int = 1,
) -> FitResult:
    """Train until the epochs are spent or the validation score stops rising, then restore the best weights.

    Args:
        task: the model and its rows.
        config: how to train.
        name: what the fit is called in logs and messages.
        seed: of the order of rows and of dropout.
        folder: holds the checkpoint; None to keep none.
        identity: what the run depends on (settings, data); a checkpoint of another identity is refused.
        resume: continue from the checkpoint in `folder` if there is one; otherwise there must be none.
        observers: who watches.
        micro_batch: rows a forward pass at most; gradients accumulate over the batch. The whole batch when None.
        checkpoint_seconds: seconds between checkpoints inside an epoch; 0 writes one at every step.
        strategy: the processes that train together; only the main one reads and writes the folder and reports to `observers`.
        shards: parts of equal size that a batch is cut into, each with separate noise; processes beyond this number have nothing to do.

    Returns:
        The outcome; `task.module` holds the best weights.

    Raises:
        CheckpointError: the checkpoint cannot be read, belongs to another run or would be overwritten, or another process trains here.
        ConfigError: `config.metric` is not among the metrics that the task validates.
        NonFiniteLossError: the loss or the validation score became NaN or infinite.
        TrainingError: there are no rows to train on.
        InterruptedTraining: Ctrl-C; everything up to the last step is in the checkpoint.
    """
    with alone(folder) if folder and strategy.main else nullcontext(), deferred_interrupt() as interrupt:
        path, watching = folder and folder / CHECKPOINT, observers if strategy.main else ()
        run = _Run(task, config, name, seed, path, identity, watching, micro_batch, checkpoint_seconds, strategy, shards)
        run.load(resume)
        try:
            run.begin()
            run.heed(interrupt)
            while not run.progress.finished:
                run.epoch(interrupt)
                run.heed(interrupt)
        except KeyboardInterrupt:
            raise run.stopped("continue from the last checkpoint") from None
        finally:
            run.end()
        run.restore_best()
    return FitResult(run.progress.best_epoch, run.progress.best_score, run.progress.history, run.progress.seconds)


class _Run:
    """One fit under way."""

    def __init__(
        self,
        task: Trainable,
        config: FitConfig,
        name: str,
        seed: int,
        path: Path | None,
        identity: Mapping[str, Any],
        observers: Sequence[Observer],
        micro_batch: int | None,
        checkpoint_seconds: float,
        strategy: Strategy,
        shards: int,
    ) -> None:
        self.strategy, self.shards = strategy, shards
        self.task, self.config, self.name, self.seed, self.path = task, config, name, seed, path
        self.identity, self.observers = dict(identity), observers
        self.micro_batch, self.checkpoint_seconds = micro_batch, checkpoint_seconds
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        self.parameters = {name: p for name, p in task.module.named_parameters() if p.requires_grad}
        matrices = [p for p in self.parameters.values() if p.ndim > 1]
        others = [p for p in self.parameters.values() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
        self.clock = self.saved_at = time.monotonic()

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.task) / self.config.batch_size)

    def begin(self) -> None:
        if self.config.epochs and not len(self.task):
            raise TrainingError(
                f"{self.name}: there is no training row to learn from. Prepare the data with another split or gentler filters."
            )
        for observer in self.observers:
            observer.begin(self.name, self.steps_per_epoch * self.config.epochs, self.progress.step, tuple(self.progress.history))
        if not self.progress.history:
            # The weights a fit starts from compete too: a stage that only harms is undone.
            self.start_epoch(1)
            self.record_epoch(self.strategy.agree(self.task.validate), {})

    def end(self) -> None:
        for observer in self.observers:
            observer.end()

    def heed(self, interrupt: Interrupt) -> None:
        """Stop between two epochs, all of which is saved, if Ctrl-C was pressed; in the last one, too, for it is meant for the caller."""
        if interrupt.requested:
            raise self.stopped("continue")

    def stopped(self, advice: str) -> InterruptedTraining:
        how = f"; {advice} with the same folder and resume=True." if self.path else "."
        return InterruptedTraining(f"{self.name}: stopped after step {self.progress.step}{how}", parameters=["resume"])

    def start_epoch(self, number: int) -> None:
        """Prepare an epoch; unlike machines may have computed other last digits, so all processes go on from the main one's."""
        self.task.start_epoch(number)
        self.strategy.align([*self.task.module.state_dict().values()])

    def epoch(self, interrupt: Interrupt) -> None:
        """Run what is left of the epoch under way, validate, and save."""
        progress, number = self.progress, self.progress.epoch + 1
        if progress.position == 0 and number > 1:
            self.start_epoch(number)
        generator = torch.Generator().manual_seed(_mix(self.seed, number, 0))
        batches = torch.randperm(len(self.task), generator=generator).split(self.config.batch_size)
        for rows in batches[progress.position :]:
            for key, value in self.train_step(rows, number).items():
                progress.sums[key] = progress.sums.get(key, 0.0) + value
            if interrupt.requested:
                self.save()
                raise self.stopped("continue")
            if time.monotonic() - self.saved_at >= self.checkpoint_seconds:
                self.save()
        means = {key: value / max(len(batches), 1) for key, value in progress.sums.items()}
        progress.epoch, progress.position, progress.sums = number, 0, {}
        self.record_epoch(self.strategy.agree(self.task.validate), means)

    def train_step(self, rows: Tensor, epoch: int) -> dict[str, float]:
        """Make one optimiser step: of the batch's shards this process's, in micro-batches."""
        self.task.module.train()
        self.optimizer.zero_grad(set_to_none=True)
        sums, weight = dict[str, float](), 0.0
        pieces = rows.tensor_split(self.shards)
        for shard in self.strategy.share(self.shards):
            torch.manual_seed(_mix(self.seed, epoch, self.progress.step + 1) + shard)
            for part in pieces[shard].split(self.micro_batch or max(len(rows), 1)):
                if not len(part):  # the batch has fewer rows than shards
                    continue
                outcome = self.task.step(part, epoch)
                if not torch.isfinite(outcome.loss):
                    raise NonFiniteLossError(self.diagnose(outcome))
                (outcome.loss * outcome.weight).backward()
                for key, value in {"loss": float(outcome.loss.detach()), **outcome.scalars}.items():
                    sums[key] = sums.get(key, 0.0) + value * outcome.weight
                weight += outcome.weight
        scalars = self.mean_over_processes(sums, weight)
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.config.clip_norm or math.inf, error_if_nonfinite=False)
        if not torch.isfinite(norm):
            raise NonFiniteLossError(f"{self.name}: step {self.progress.step + 1}: the gradient's norm is {norm}. {self.advice()}")
        rate = self.config.learning_rate * min(1.0, (self.progress.step + 1) / max(self.config.warmup_steps, 1))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.progress.step += 1
        self.progress.position += 1
        scalars |= {"gradient_norm": float(norm), "learning_rate": rate}
        for observer in self.observers:
            observer.on_step(self.progress.step, scalars)
        return scalars

    def mean_over_processes(self, sums: Mapping[str, float], weight: float) -> dict[str, float]:
        """Turn sums over this process's rows, gradients among them, into means over the whole batch."""
        gathered = self.strategy.gather((sums, weight, [parameter.grad is not None for parameter in self.parameters.values()]))
        # A weight that no row used keeps no gradient, so that Adam leaves it alone; one that others' rows used has 0 here.
        used = [any(flags) for flags in zip(*(flags for _, _, flags in gathered), strict=True)]
        trained = [parameter for parameter, is_used in zip(self.parameters.values(), used, strict=True) if is_used]
        for parameter in trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
        self.strategy.sum(gradients)
        total = sum(weight for _, weight, _ in gathered) or 1.0  # nothing to learn from: all gradients are 0
        for gradient in gradients:
            gradient /= total
        means = dict[str, float]()
        for own, _, _ in gathered:
            for key, value in own.items():
                means[key] = means.get(key, 0.0) + value
        return {key: value / total for key, value in means.items()}

    def record_epoch(self, metrics: dict[str, float], means: dict[str, float]) -> None:
        """Note an epoch's outcome, keep the weights if they are the best so far, decide whether to go on, and save."""
        progress, score = self.progress, self.score(metrics)
        self.tick()
        record = {"epoch": progress.epoch, "step": progress.step, "seconds": progress.seconds, "train": means, "valid": metrics}
        record["metric"] = self.config.metric
        progress.history.append(record)
        if score > progress.best_score:
            progress.best_score, progress.best_epoch = score, progress.epoch
            self.best = {name: tensor.detach().clone() for name, tensor in self.task.module.state_dict().items()}
        progress.finished = progress.epoch >= self.config.epochs or self.out_of_patience
        self.save()
        for observer in self.observers:
            observer.on_epoch(record)

    @property
    def out_of_patience(self) -> bool:
        progress, config = self.progress, self.config
        steps = progress.step - progress.history[progress.best_epoch]["step"]
        return progress.epoch - progress.best_epoch >= config.patience and steps >= config.patience_steps

    def score(self, metrics: Mapping[str, float]) -> float:
        if self.config.metric not in metrics:
            raise ConfigError(f"{self.name}: metric {self.config.metric!r} is not among those validated: {', '.join(sorted(metrics))}.")
        score = metrics[self.config.metric]
        if not math.isfinite(score):
            raise NonFiniteLossError(
                f"{self.name}: epoch {self.progress.epoch}: {self.config.metric} is {score} in validation. {self.advice()}"
            )
        return score

    def tick(self) -> None:
        now = time.monotonic()
        self.progress.seconds += now - self.clock
        self.clock = now

    def save(self) -> None:
        self.tick()
        if self.path is None or not self.strategy.main:
            return
        tensors = {f"model.{name}": tensor for name, tensor in self.task.module.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"adam.{key}.{name}"] = value
        try:
            write_tensors(self.path, tensors, {"format": FORMAT, "identity": self.identity, "progress": asdict(self.progress)})
        except OSError as error:
            raise CheckpointError(
                f"Cannot write {self.path}: {error}. Make room on the disk and resume; the checkpoint before it is as it was."
            ) from error
        self.saved_at = time.monotonic()

    def load(self, resume: bool) -> None:
        """Go on from the checkpoint, if there is one; or refuse to take its place."""
        found = self.strategy.agree(lambda: self.read(resume))
        if found is None:
            return
        tensors, state = found
        try:
            self.progress = Progress(**state["progress"])
            self.best = _under("best.", tensors)
            self.restore_best()  # so that weights that do not fit are refused now and not at the end
            self.task.module.load_state_dict(_under("model.", tensors))
            self.load_moments({key: _under(f"adam.{key}.", tensors) for key in MOMENTS})
        except (KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{self.path} does not fit this run: {error}") from error
        self.clock = time.monotonic()

    def read(self, resume: bool) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the checkpoint's content, None where there is none."""
        if self.path is None or not self.path.exists():
            return None
        if not resume:
            raise CheckpointError(
                f"{self.path} would be overwritten. Go on from it with resume=True, or take another folder.", parameters=["resume", "out"]
            )
        tensors, state = read_tensors(self.path)
        if state.get("format") != FORMAT:
            raise CheckpointError(
                f"{self.path} has format {state.get('format')!r}; this version continues format {FORMAT}. "
                "Resume with the laserrec that wrote it, or start afresh in another folder."
            )
        if state.get("identity") != self.identity:
            raise CheckpointError(
                f"{self.path} belongs to a run with other settings or data. Resume with the ones it was started with, "
                "or start afresh in another folder."
            )
        return tensors, state

    def load_moments(self, moments: Mapping[str, Mapping[str, Tensor]]) -> None:
        for name in {name for tensors in moments.values() for name in tensors}:
            parameter = self.parameters[name]
            for key, tensors in moments.items():
                kept = tensors[name]
                self.optimizer.state[parameter][key] = kept if key == "step" else kept.to(parameter.device).view_as(parameter)

    def restore_best(self) -> None:
        self.task.module.load_state_dict(self.best)

    def diagnose(self, outcome: Step) -> str:
        broken = [name for name, p in self.parameters.items() if not torch.isfinite(p).all()]
        parts = ", ".join(f"{key} {value:.4g}" for key, value in outcome.scalars.items())
        where = f"Weights that are not finite: {', '.join(broken)}." if broken else "All weights are still finite."
        return f"{self.name}: step {self.progress.step + 1}: the loss is {float(outcome.loss.detach())} ({parts}). {where} {self.advice()}"

    def advice(self) -> str:
        kept = f" The last good state is in {self.path}." if self.path else ""
        return (
            f"Start afresh{' in another folder' if self.path else ''} with a lower learning rate (here {self.config.learning_rate:g}), "
            f"with clip_norm set (here {self.config.clip_norm}), or with llm.dtype=float32.{kept}"
        )


def _mix(seed: int, epoch: int, step: int) -> int:
    """Return one 63-bit seed for (seed, epoch, step); distinct triples get unrelated streams."""
    mixed = seed
    for value in (epoch, step):
        mixed = (mixed * 6364136223846793005 + value * 1442695040888963407 + 1013904223) % 2**63
    return mixed


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
