"""`laserrec transfer`: a trained model over another catalogue, without training."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from laserrec.cli.support import Device


def transfer(
    model: Annotated[str, typer.Argument(help="A run, a model folder, or a Hugging Face repository hf:owner/name.")],
    data: Annotated[Path, typer.Option(help="Folder of the other catalogue's dataset.")],
    out: Annotated[Path, typer.Option(help="Folder of the run to write.")],
    device: Device = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Carry a trained model over to another catalogue as it is, and evaluate it there: no event of that catalogue is learnt from.

    To train it further there, use `laserrec train --set start=MODEL`.
    """
    from laserrec.cli.show import show_results
    from laserrec.cli.support import print_json, progress_console
    from laserrec.data.dataset import Dataset
    from laserrec.runs.folder import read_results, transfer_run
    from laserrec.system.devices import choose
    from laserrec.training.observers import ProgressBar

    command = ["laserrec", *sys.argv[1:]]
    watching, place, dataset = [ProgressBar(progress_console())], choose(device), Dataset.load(data)
    run = transfer_run(out, model, dataset, data, command=command, observers=watching, device=place)
    results = read_results(run)
    if as_json:
        print_json({"run": str(out), "model": str(run.model), "results": [result.as_dict() for result in results]})
    else:
        show_results(results)
