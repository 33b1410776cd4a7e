"""Small fits for one process or for two that train together: `main(rank, workers, folder)` makes all of them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import tiny
import torch
import torch.distributed as dist

from laserrec.config import CollaborativeConfig, FitConfig
from laserrec.data.dataset import Cases
from laserrec.data.ragged import Ragged
from laserrec.distributed.processes import DistributedStrategy
from laserrec.sequential.build import build_recommender
from laserrec.system.files import write_json, write_tensors
from laserrec.system.progress import Observer
from laserrec.training.loop import FitResult, Trainable, fit
from laserrec.training.sequential_task import CollaborativeTask
from laserrec.training.strategy import ALONE, Strategy

N, SHARDS = 12, 3
RECORD, FINAL = "record.json", "final.safetensors"


class Stop(Exception):  # noqa: N818 - not an error
    """Ends a fit at a step."""


class StopAt(Observer):
    """Ends a fit after a step, in the process that observers are called in."""

    def __init__(self, last: int) -> None:
        self.last = last

    def on_step(self, step: int, scalars: object) -> None:
        if step == self.last:
            raise Stop


def sequential(dtype: torch.dtype = torch.float64) -> CollaborativeTask:
    """Train SASRec with dropout on 22 rows of uneven length, so that the last batch of 8 and its 3 shards are uneven, too."""
    torch.manual_seed(0)
    model = build_recommender(CollaborativeConfig(model="sasrec", width=16, blocks=1, heads=2, max_history=5, dropout=0.3), N)
    histories = Ragged.from_rows([[(7 * user + step) % N for step in range(3 + user % 4)] for user in range(22)])
    targets = (np.array([row[-1] for row in histories]) + 1) % N
    return CollaborativeTask(model.to(dtype), histories, Cases(np.arange(22), histories, targets), hold_out=0)


def train(
    folder: Path, task: Trainable, strategy: Strategy, *, shards: int = SHARDS, resume: bool = False, last: int | None = None
) -> FitResult:
    """Four epochs of three steps, with a checkpoint at every one; leaves the epochs' figures and the final weights beside it."""
    config = FitConfig(epochs=4, batch_size=8, learning_rate=1e-2, patience=4)
    how = {"folder": folder, "identity": {}, "resume": resume, "checkpoint_seconds": 0, "strategy": strategy, "shards": shards}
    result = fit(task, config, name="fit", seed=5, observers=[] if last is None else [StopAt(last)], **how)
    if strategy.main:
        write_tensors(folder / FINAL, task.module.state_dict(), {})
        write_json(folder / RECORD, asdict(result))
    return result


def main(rank: int, workers: int, folder: Path) -> None:
    """Make every fit of the tests as one process of a group that meets in `folder`, where one process left a checkpoint to go on from."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=workers)
    strategy = DistributedStrategy()
    train(folder / "whole", sequential(), strategy)
    train(folder / "from one", sequential(), strategy, resume=True)
    train(folder / "laser", tiny.task(tiny.system(tiny.config(mformer={"drop_state": 0.3}))), strategy)
    exchanged = [torch.tensor([rank == 0, True]), torch.tensor([rank], dtype=torch.int64), torch.full((2, 1), float(rank))]
    strategy.align(exchanged)
    assert [tensor.tolist() for tensor in exchanged] == [[True, True], [0], [[0.0], [0.0]]]
    write_json(folder / f"share-{rank}.json", {"share": list(strategy.share(5)), "all": strategy.gather(rank)})
    try:  # last, for it ends at different moments in the two
        train(folder / "stopped", sequential(), strategy, last=7)
    except (Stop, RuntimeError):
        dist.destroy_process_group()


ALONE_FITS = {
    "whole": lambda folder: train(folder, sequential(), ALONE),
    "laser": lambda folder: train(folder, tiny.task(tiny.system(tiny.config(mformer={"drop_state": 0.3}))), ALONE),
}
"""The same fits in this process."""
