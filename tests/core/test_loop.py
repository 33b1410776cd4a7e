"""The training loop on a task small enough to follow: every rule of a fit, one at a time."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from laserrec.checkpoint import read_tensors, write_tensors
from laserrec.config import FitConfig
from laserrec.errors import CheckpointError, ConfigError, InterruptedTraining, NonFiniteLossError, TrainingError
from laserrec.training.loop import CHECKPOINT, FitResult, Step, fit

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


@dataclass
class Watcher:
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
    values = {"epochs": 3, "batch_size": 4, "learning_rate": 0.01, "metric": "score", "checkpoint_seconds": 0, "patience": 9, **settings}
    return fit(
        task,
        FitConfig(**values),
        name="line",
        seed=seed,
        folder=folder,
        identity={"data": "x"},
        resume=resume,
        observers=[watcher] if watcher else [],
    )


def weights(task: Regression) -> list[float]:
    return [*task.module[1].weight[0].tolist(), *task.module[1].bias.tolist()]  # type: ignore[union-attr,operator]


def test_every_row_once_an_epoch_in_another_order(tmp_path: Path) -> None:
    task = Regression()
    run(tmp_path, task)
    epochs = [[row for batch in task.seen[start : start + 3] for row in batch] for start in (0, 3, 6)]
    assert [len(batch) for batch in task.seen] == [4, 4, 2] * 3
    assert all(sorted(epoch) == list(range(ROWS)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    again, other = Regression(), Regression()
    run(tmp_path / "again", again)
    run(tmp_path / "other", other, seed=1)
    assert again.seen == task.seen
    assert other.seen != task.seen


def test_learns(tmp_path: Path) -> None:
    result = run(tmp_path, Regression(), epochs=60, patience=60, learning_rate=0.2, checkpoint_seconds=60)
    assert result.best_score > -1e-2
    assert result.best_score > result.history[0]["valid"]["score"]
    assert result.seconds > 0


@pytest.mark.parametrize("micro", [1, 3, 4, 99])
def test_accumulation_is_the_full_batch(tmp_path: Path, micro: int) -> None:
    whole, parts = Regression(), Regression()
    seen, told = Watcher(), Watcher()
    run(tmp_path / "whole", whole, watcher=seen)
    run(tmp_path / "parts", parts, watcher=told, micro_batch_size=micro)
    assert weights(parts) == pytest.approx(weights(whole), rel=1e-5)
    for step, scalars in seen.steps.items():
        assert told.steps[step] == pytest.approx(scalars, rel=1e-4)


def first_gradient(folder: Path, clip: float | None) -> tuple[float, float]:
    """The gradient's norm as logged, and as the optimiser saw it."""
    task, watcher = Regression(), Watcher({1: pull})
    with pytest.raises(Stop):
        run(folder, task, watcher=watcher, clip_norm=clip)
    squares = sum(float(parameter.grad.square().sum()) for parameter in task.module.parameters() if parameter.grad is not None)
    return watcher.steps[1]["gradient_norm"], math.sqrt(squares)


def test_clipping(tmp_path: Path) -> None:
    norm, unclipped = first_gradient(tmp_path / "unclipped", None)
    assert norm == pytest.approx(unclipped)
    assert norm > 1
    assert first_gradient(tmp_path / "clipped", 0.5) == pytest.approx((norm, 0.5), rel=1e-4)
    assert first_gradient(tmp_path / "gently", 1e6) == pytest.approx((norm, norm))


def test_warm_up(tmp_path: Path) -> None:
    watcher = Watcher()
    run(tmp_path, Regression(), watcher=watcher, warmup_steps=4, learning_rate=0.08)
    assert [watcher.steps[step]["learning_rate"] for step in range(1, 10)] == pytest.approx([0.02, 0.04, 0.06, *[0.08] * 6])


def test_first_step_of_adam(tmp_path: Path) -> None:
    task, watcher = Regression(), Watcher({1: pull})
    before = weights(task)
    with pytest.raises(Stop):
        run(tmp_path, task, watcher=watcher, learning_rate=0.02, warmup_steps=2)
    # Adam's first step is the learning rate, halved by the warm-up, against each gradient's sign.
    assert [abs(new - old) for new, old in zip(weights(task), before, strict=True)] == pytest.approx([0.01] * 5, rel=1e-3)


def test_decay_shrinks_matrices_alone(tmp_path: Path) -> None:
    class Flat(Regression):
        def loss(self, errors: Tensor) -> Tensor:
            return errors.sum() * 0

    task = Flat(scores=[0, 1])
    before = weights(task)
    run(tmp_path, task, epochs=1, weight_decay=0.5, learning_rate=0.1)
    # Three steps, each multiplying the matrix by 1 − .1 · .5.
    assert weights(task) == pytest.approx([weight * 0.95**3 for weight in before[:4]] + before[4:], rel=1e-5)


def test_noise_differs_between_steps_and_repeats_between_runs(tmp_path: Path) -> None:
    one, two = Regression(dropout=0.5), Regression(dropout=0.5)
    torch.manual_seed(5)
    run(tmp_path / "one", one)
    torch.manual_seed(6)
    run(tmp_path / "two", two)
    assert weights(one) == weights(two)


@pytest.mark.parametrize(
    ("scores", "patience", "epochs", "best"),
    [
        ([0.1, 0.2, 0.3, 0.2, 0.1], 2, 9, 2),
        ([0.1, 0.2, 0.3, 0.2, 0.4, 0.3, 0.3], 2, 9, 4),
        ([0.9, 0.2, 0.3], 2, 2, 0),
        ([0.5, 0.5, 0.5], 2, 2, 0),
        ([0.1, 0.2], 1, 1, 1),
        ([0.3, 0.2], 1, 1, 0),
    ],
)
def test_early_stopping_and_best_weights(tmp_path: Path, scores: list[float], patience: int, epochs: int, best: int) -> None:
    task = Regression(scores=scores)
    watcher, kept = Watcher(), {0: weights(task)}
    watcher.at = {3 * epoch: lambda epoch=epoch: kept.update({epoch: weights(task)}) for epoch in range(1, 9)}
    result = run(tmp_path, task, watcher=watcher, epochs=epochs, patience=patience)
    assert (result.best_epoch, result.best_score) == (best, scores[best])
    assert [record["epoch"] for record in result.history] == watcher.epochs == list(range(len(scores)))
    assert weights(task) == kept[best]
    assert task.module.epoch == max(best, 1)


def test_no_epochs(tmp_path: Path) -> None:
    task = Regression()
    before = weights(task)
    result = run(tmp_path, task, epochs=0)
    assert (result.best_epoch, len(result.history), task.seen) == (0, 1, [])
    assert weights(task) == before


def test_records(tmp_path: Path) -> None:
    watcher = Watcher()
    result = run(tmp_path, Regression(), watcher=watcher, epochs=2)
    first, second, third = result.history
    assert (first["epoch"], first["step"], first["train"]) == (0, 0, {})
    assert (second["epoch"], second["step"], third["step"]) == (1, 3, 6)
    for key in ("loss", "rows", "gradient_norm", "learning_rate"):
        assert second["train"][key] == pytest.approx(sum(watcher.steps[step][key] for step in (1, 2, 3)) / 3)
    assert watcher.begun == [("line", 6, 0)]
    assert watcher.ended == 1


def test_a_metric_that_is_not_validated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'ndcg@7' is not among those validated: score"):
        run(tmp_path, Regression(), metric="ndcg@7")


class Poisoned(Regression):
    """Breaks at its sixth step."""

    def __init__(self, factor: float = math.nan) -> None:
        super().__init__()
        self.factor = factor

    def loss(self, errors: Tensor) -> Tensor:
        return super().loss(errors) * (self.factor if len(self.seen) == 6 else 1)


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_with_a_diagnosis(tmp_path: Path, factor: float) -> None:
    watcher, task = Watcher(), Poisoned(factor)
    with pytest.raises(
        NonFiniteLossError,
        match=r"line: step 6: the loss is (nan|inf) \(rows .*still finite.*Start afresh.*here 0\.01.*last good state is in",
    ) as caught:
        run(tmp_path, task, watcher=watcher)
    assert str(tmp_path) in str(caught.value)
    assert watcher.ended == 1
    _, state = read_tensors(tmp_path / CHECKPOINT)
    assert (state["progress"]["step"], state["progress"]["epoch"], state["progress"]["position"]) == (5, 1, 2)
    # The same run without the poison, stopped and resumed, ends as one that never met it.
    cured, whole = Regression(), Regression()
    run(tmp_path, cured, resume=True)
    run(tmp_path / "whole", whole)
    assert weights(cured) == weights(whole)


def test_weights_that_are_not_finite_are_named(tmp_path: Path) -> None:
    task = Regression(scores=[0.0])
    with torch.no_grad():
        task.module[1].weight[0, 0] = math.nan  # type: ignore[union-attr,index]
    with pytest.raises(NonFiniteLossError, match=r"Weights that are not finite: 1\.weight\."):
        run(tmp_path, task)


def test_a_gradient_that_is_not_finite(tmp_path: Path) -> None:
    class Cusp(Regression):
        def loss(self, errors: Tensor) -> Tensor:
            return (errors * 0).sum().abs().sqrt()

    task = Cusp()
    before = weights(task)
    with pytest.raises(NonFiniteLossError, match="step 1: the gradient's norm is nan"):
        run(tmp_path, task)
    assert weights(task) == before


@pytest.mark.parametrize(("scores", "epoch"), [([math.nan], 0), ([0.1, math.inf], 1)])
def test_a_validation_that_is_not_finite(tmp_path: Path, scores: list[float], epoch: int) -> None:
    with pytest.raises(NonFiniteLossError, match=f"line: epoch {epoch}: score is {scores[-1]} in validation"):
        run(tmp_path, Regression(scores=scores), epochs=epoch)


def test_no_rows(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no training row"):
        run(tmp_path, Regression(scores=[0.0, 0.0, 0.0, 0.0], rows=0))


def stopped(folder: Path, step: int = 5, **settings: Any) -> Regression:  # noqa: ANN401
    task = Regression(dropout=0.5)
    with pytest.raises(Stop):
        run(folder, task, watcher=Watcher({step: pull}), **settings)
    return task


@pytest.mark.parametrize("step", range(1, 10))
@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_resumed_is_bit_identical(tmp_path: Path, step: int, seconds: float) -> None:
    whole = Regression(dropout=0.5)
    expected = run(tmp_path / "whole", whole)
    stopped(tmp_path, step, checkpoint_seconds=seconds)
    resumed, watcher = Regression(dropout=0.5), Watcher()
    for parameter in resumed.module.parameters():
        nn.init.zeros_(parameter)
    found = run(tmp_path, resumed, resume=True, watcher=watcher, checkpoint_seconds=seconds)
    assert weights(resumed) == weights(whole)
    assert [without_seconds(record) for record in found.history] == [without_seconds(record) for record in expected.history]
    done = step - 1 if seconds == 0 else 3 * ((step - 1) // 3)
    # The last step of an epoch is saved once more with the validation, so it is not made again.
    assert watcher.begun == [("line", 9, done)]
    assert min(watcher.steps) == done + 1
    assert watcher.earlier == list(range(done // 3 + 1))
    assert watcher.earlier + watcher.epochs == [0, 1, 2, 3]


def without_seconds(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "seconds"}


def test_seconds_add_up_over_resumptions(tmp_path: Path) -> None:
    stopped(tmp_path, 9)
    before = read_tensors(tmp_path / CHECKPOINT)[1]["progress"]["seconds"]
    result = run(tmp_path, Regression(dropout=0.5), resume=True)
    assert result.seconds > before > 0
    seconds = [record["seconds"] for record in result.history]
    assert seconds == sorted(seconds)


def test_a_finished_fit_is_not_made_again(tmp_path: Path) -> None:
    whole = Regression()
    expected = run(tmp_path, whole)
    again = Regression()
    found = run(tmp_path, again, resume=True)
    assert again.seen == []
    assert again.validated == 0
    assert weights(again) == weights(whole)
    assert found == expected


def test_without_resume_a_checkpoint_is_not_overwritten(tmp_path: Path) -> None:
    stopped(tmp_path)
    kept = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(CheckpointError, match=r"would be overwritten\. Go on from it with --resume"):
        run(tmp_path, Regression(dropout=0.5))
    assert (tmp_path / CHECKPOINT).read_bytes() == kept
    run(tmp_path, Regression(dropout=0.5), resume=True)
    with pytest.raises(CheckpointError, match="would be overwritten"):
        run(tmp_path, Regression(dropout=0.5))


def test_resume_without_a_checkpoint_starts(tmp_path: Path) -> None:
    task = Regression()
    run(tmp_path, task, resume=True)
    assert len(task.seen) == 9


def test_another_format_is_refused(tmp_path: Path) -> None:
    stopped(tmp_path)
    tensors, state = read_tensors(tmp_path / CHECKPOINT)
    for wrong in ({**state, "format": 0}, {"identity": state["identity"], "progress": state["progress"]}):
        write_tensors(tmp_path / CHECKPOINT, tensors, wrong)
        with pytest.raises(CheckpointError, match="this version continues format 1"):
            run(tmp_path, Regression(), resume=True)


def test_one_process_a_folder(tmp_path: Path) -> None:
    def second() -> None:
        with pytest.raises(CheckpointError, match="is being trained by another process"):
            run(tmp_path, Regression(), resume=True)

    watcher, whole, task = Watcher({2: second}), Regression(), Regression()
    run(tmp_path, task, watcher=watcher)
    assert watcher.ended == 1
    run(tmp_path / "whole", whole)
    assert weights(task) == weights(whole)


def test_without_a_folder_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    task, whole = Regression(), Regression()
    assert run(None, task, resume=True).best_score == run(tmp_path / "whole", whole).best_score
    assert weights(task) == weights(whole)
    with pytest.raises(InterruptedTraining, match=r"^line: stopped after step 2\.$"):
        run(None, Regression(), watcher=Watcher({2: interrupt}))
    with pytest.raises(NonFiniteLossError, match=r"Start afresh with a lower .*float32\.$"):
        run(None, Poisoned())
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_another_run_s_checkpoint_is_refused(tmp_path: Path) -> None:
    stopped(tmp_path)
    settings = FitConfig(metric="score")
    for identity in ({"data": "y"}, {}, {"data": "x", "more": 1}):
        with pytest.raises(CheckpointError, match="other settings or data"):
            fit(Regression(), settings, name="line", seed=0, folder=tmp_path, identity=identity, resume=True)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    stopped(tmp_path)
    path = tmp_path / CHECKPOINT
    tensors, state = read_tensors(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="not a readable"):
        run(tmp_path, Regression(), resume=True)
    for wrong in (
        {**state, "progress": {"epochs": 3}},
        {**state, "progress": None},
        {"format": state["format"], "identity": state["identity"]},
    ):
        write_tensors(path, tensors, wrong)
        with pytest.raises(CheckpointError, match="does not fit this run"):
            run(tmp_path, Regression(), resume=True)
    for name in ("model.1.weight", "best.1.weight", "adam.exp_avg.1.weight"):
        write_tensors(path, {**tensors, name: torch.zeros(7, 7)}, state)
        with pytest.raises(CheckpointError, match="does not fit this run"):
            run(tmp_path, Regression(), resume=True)
        write_tensors(path, {key: value for key, value in tensors.items() if key != name}, state)
        with pytest.raises(CheckpointError, match="does not fit this run"):
            run(tmp_path, Regression(), resume=True)
    write_tensors(path, {**tensors, "adam.exp_avg.2.weight": torch.zeros(1)}, state)
    with pytest.raises(CheckpointError, match="does not fit this run"):
        run(tmp_path, Regression(), resume=True)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("step", [1, 3, 5, 9])
def test_ctrl_c_leaves_a_resumable_run(tmp_path: Path, step: int) -> None:
    handler, whole, task, watcher = (
        signal.getsignal(signal.SIGINT),
        Regression(dropout=0.5),
        Regression(dropout=0.5),
        Watcher({step: interrupt}),
    )
    run(tmp_path / "whole", whole)
    with pytest.raises(InterruptedTraining, match=rf"line: stopped after step {step}; continue with --resume"):
        run(tmp_path, task, watcher=watcher, checkpoint_seconds=1e9)
    assert max(watcher.steps) == step
    assert watcher.ended == 1
    assert signal.getsignal(signal.SIGINT) == handler
    resumed, later = Regression(dropout=0.5), Watcher()
    run(tmp_path, resumed, resume=True, watcher=later)
    assert later.begun == [("line", 9, step)]
    assert weights(resumed) == weights(whole)


class Hurried(Regression):
    """Ctrl-C during a validation."""

    def __init__(self, at: int) -> None:
        super().__init__(dropout=0.5)
        self.at = at

    def validate(self) -> dict[str, float]:
        if self.validated == self.at:
            interrupt()
        return super().validate()


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_ctrl_c_during_validation_stops_after_it(tmp_path: Path, epoch: int) -> None:
    with pytest.raises(InterruptedTraining, match=rf"stopped after step {3 * epoch}; continue with --resume"):
        run(tmp_path, Hurried(epoch), checkpoint_seconds=1e9)
    whole, resumed, watcher = Regression(dropout=0.5), Regression(dropout=0.5), Watcher()
    run(tmp_path / "whole", whole)
    run(tmp_path, resumed, resume=True, watcher=watcher)
    assert resumed.validated == 3 - epoch
    assert watcher.earlier == list(range(epoch + 1))
    assert weights(resumed) == weights(whole)


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    watcher = Watcher({2: lambda: (interrupt(), interrupt())})
    with pytest.raises(InterruptedTraining, match="continue from the last checkpoint with --resume"):
        run(tmp_path, Regression(dropout=0.5), watcher=watcher)
    whole, resumed = Regression(dropout=0.5), Regression(dropout=0.5)
    run(tmp_path / "whole", whole)
    run(tmp_path, resumed, resume=True)
    assert weights(resumed) == weights(whole)


def test_outside_the_main_thread(tmp_path: Path) -> None:
    task, main = Regression(), Regression()
    thread = threading.Thread(target=run, args=(tmp_path, task))
    thread.start()
    thread.join()
    run(tmp_path / "main", main)
    assert weights(task) == weights(main)
