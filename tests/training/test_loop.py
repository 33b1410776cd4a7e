"""The training loop on a task small enough to follow: every rule of a fit, one at a time."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from line import ROWS, Poisoned, Regression, Stop, Watcher, pull, run, weights
from torch import Tensor

from laserrec.errors import ConfigError, NonFiniteLossError, TrainingError
from laserrec.system.files import read_tensors
from laserrec.training.loop import CHECKPOINT


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
    seen, micro_watcher = Watcher(), Watcher()
    run(tmp_path / "whole", whole, watcher=seen)
    run(tmp_path / "parts", parts, watcher=micro_watcher, micro_batch=micro)
    assert weights(parts) == pytest.approx(weights(whole), rel=1e-5)
    for step, scalars in seen.steps.items():
        assert micro_watcher.steps[step] == pytest.approx(scalars, rel=1e-4)


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


@pytest.mark.parametrize(("steps", "last"), [(0, 1), (3, 1), (4, 2), (6, 2), (7, 3), (99, 4)])
def test_patience_has_steps_too(tmp_path: Path, steps: int, last: int) -> None:
    # Three steps an epoch, none better than the start.
    result = run(tmp_path, Regression(scores=[0.9, 0.1, 0.1, 0.1, 0.1]), epochs=4, patience=1, patience_steps=steps)
    assert (result.best_epoch, result.history[-1]["epoch"]) == (0, last)


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
