"""`laserrec evaluate`: figures of a run's model."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from laserrec.cli.support import Device, Ray, Workers


class SplitOption(StrEnum):
    """Parts that `--split` takes."""

    valid = "valid"
    test = "test"


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of the run.")],
    split: Annotated[SplitOption, typer.Option(help="Which split of the dataset.")] = SplitOption.test,
    json_file: Annotated[str | None, typer.Option("--json", metavar="FILE", help="Write the figures as JSON; - for stdout.")] = None,
    data: Annotated[Path | None, typer.Option(help="Where the run's dataset lies now, when it was moved.")] = None,
    device: Device = None,
    ray: Ray = None,
    workers: Workers = 1,
) -> None:
    """Rank every item for every user of a split, under both protocols, and keep the ranks in the run."""
    from laserrec.cli.show import show_results
    from laserrec.cli.support import check_workers, progress_console, resumable, write_json_to
    from laserrec.recommender import Laser
    from laserrec.runs.folder import RunFolder, evaluate_run, read_result

    check_workers(ray, workers)
    folder = RunFolder.open(run)
    model, dataset = folder.model, folder.dataset(data)
    if ray is None:
        with progress_console().status("Evaluating"):
            evaluate_run(folder, Laser.load(model, device=device), dataset, split.value)
    else:
        from laserrec.distributed.evaluate import evaluate_on_cluster
        from laserrec.system.progress import watched
        from laserrec.training.observers import ProgressBar

        shown = watched([ProgressBar(progress_console())], "cases", len(dataset.cases(split.value)))
        with resumable(shlex.join(["laserrec", *sys.argv[1:]])), shown as progress:
            evaluate_on_cluster(folder, data or folder.data_path, split.value, ray, workers, device, progress)
    result = read_result(folder, split.value)
    if json_file is not None:
        write_json_to(json_file, result.as_dict())
    if json_file != "-":
        show_results([result])
