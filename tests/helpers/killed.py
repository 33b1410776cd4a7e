"""Work for a process that kills itself at one of its renames, so that tests see what every such moment leaves."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import small_shop
import torch

from laserrec import Dataset, Laser
from laserrec.data.prepare import PrepareOptions, prepare
from laserrec.runs.folder import RunFolder, train_run
from laserrec.system import atomic

Work = Callable[[Path], None]
COUNT = "renames"
"""The file that says how many renames the work took."""


def save_dataset(folder: Path) -> None:
    """Prepare `log.csv` into `data`; a dataset that is there is replaced."""
    dataset, _ = prepare(folder / "log.csv", PrepareOptions(name="log", min_user=1, min_item=1))
    dataset.save(folder / "data", replace=True)


def save_model(folder: Path) -> None:
    """Load `model`, add an item and save it where it was."""
    laser = Laser.load(folder / "model")
    laser.add_items([{"item_id": "lamp", "title": "Lamp"}])
    laser.save(folder / "model")


def train(folder: Path) -> None:
    """Train what is left of the run `run` with the language model `llm`."""
    data, config = Dataset.load(folder / "data"), small_shop.config(folder / "llm")
    run = RunFolder.begin(folder / "run", config, data, folder / "data", command=["laserrec", "train"], resume=True)
    train_run(run, data)
    run.finish()


def killed_at(work: Work, folder: Path, number: int, moment: str, in_two_steps: bool = False) -> None:
    """Do work, and kill this process at one of its renames.

    Args:
        work: what is done.
        folder: where.
        number: of the rename, from 0; all are made and counted where there are no so many.
        moment: "before" or "after" it.
        in_two_steps: whether folders are replaced as on a system that cannot exchange them.
    """
    torch.set_num_threads(1)
    os.environ["LASERREC_CACHE"] = str(folder / "cache")
    made = 0

    def deadly(rename: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: object) -> Any:  # noqa: ANN401 - whatever the rename returns
            nonlocal made
            made += 1
            if made - 1 == number and moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = rename(*arguments)
            if made - 1 == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return step

    os.replace, os.rename = deadly(os.replace), deadly(os.rename)
    atomic.exchange = (lambda *_: False) if in_two_steps else deadly(atomic.exchange)
    work(folder)
    (folder / COUNT).write_text(str(made))
