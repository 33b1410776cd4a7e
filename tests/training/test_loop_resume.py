"""A fit that is stopped, killed or resumed ends as one that nobody disturbed; what cannot be resumed is refused."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from line import Poisoned, Regression, Stop, Watcher, pull, run, weights
from torch import nn

from laserrec.config import FitConfig
from laserrec.errors import CheckpointError, InterruptedTraining, NonFiniteLossError
from laserrec.system.files import read_tensors, write_tensors
from laserrec.training.loop import CHECKPOINT, fit


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
    with pytest.raises(CheckpointError, match=r"would be overwritten\. Go on from it with resume=True"):
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
        with pytest.raises(CheckpointError, match="this version continues format 3"):
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
    with pytest.raises(InterruptedTraining, match=rf"line: stopped after step {step}; continue with the same folder and resume=True"):
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
    with pytest.raises(InterruptedTraining, match=rf"stopped after step {3 * epoch}; continue with the same folder and resume=True"):
        run(tmp_path, Hurried(epoch), checkpoint_seconds=1e9)
    whole, resumed, watcher = Regression(dropout=0.5), Regression(dropout=0.5), Watcher()
    run(tmp_path / "whole", whole)
    run(tmp_path, resumed, resume=True, watcher=watcher)
    assert resumed.validated == 3 - epoch
    assert watcher.earlier == list(range(epoch + 1))
    assert weights(resumed) == weights(whole)


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    watcher = Watcher({2: lambda: (interrupt(), interrupt())})
    with pytest.raises(InterruptedTraining, match="continue from the last checkpoint with the same folder and resume=True"):
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
