"""`laserrec evaluate`: figures of a run's model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from laserrec.cli.support import Device


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
) -> None:
    """Rank every item for every user of a split, under both protocols, and keep the ranks in the run."""
    from laserrec.cli.show import show_results
    from laserrec.cli.support import progress_console, write_json_to
    from laserrec.recommender import Laser
    from laserrec.runs.folder import RunFolder, evaluate_run, read_result

    folder = RunFolder.open(run)
    model, dataset = folder.model, folder.dataset(data)
    with progress_console().status("Evaluating"):
        evaluate_run(folder, Laser.load(model, device=device), dataset, split.value)
    result = read_result(folder, split.value)
    if json_file is not None:
        write_json_to(json_file, result.as_dict())
    if json_file != "-":
        show_results([result])
