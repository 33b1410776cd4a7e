"""`laserrec baseline`: train and evaluate what Laser is compared with."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laserrec.cli.support import Device, UsageError

if TYPE_CHECKING:
    from laserrec.run_folder import Result


class Name(StrEnum):
    """Baselines that the command knows."""

    popularity = "popularity"
    item_knn = "item-knn"
    last_text = "last-text"
    sasrec = "sasrec"
    bert4rec = "bert4rec"
    gru4rec = "gru4rec"
    sasrec_text = "sasrec-text"
    gru4rec_text = "gru4rec-text"
    fdsa = "fdsa"
    unisrec_text = "unisrec-text"
    unisrec = "unisrec"
    sasrec_text_id = "sasrec-text-id"
    ensemble = "ensemble"


def baseline(
    names: Annotated[list[Name], typer.Argument(help="Which ones.")],
    data: Annotated[Path, typer.Option(help="Dataset folder.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; each baseline has one below, and what is there is not done again.")],
    config: Annotated[Path | None, typer.Option(help="Settings, TOML or JSON, such as `laserrec tune` finds.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Such as fit_collaborative.epochs=3; repeatable.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of weights, order and dropout. [0]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
    device: Device = None,
) -> None:
    """Train baselines on a dataset and evaluate them on validation and test, with Laser's settings where both have them."""
    from laserrec.baseline_runs import measure_baseline
    from laserrec.cli.show import show_results
    from laserrec.cli.support import print_json, progress_console, read_settings, resumable
    from laserrec.data.dataset import Dataset
    from laserrec.devices import choose
    from laserrec.run_folder import PARTS, RunFolder
    from laserrec.training.observers import EpochLog, ProgressBar
    from laserrec.training.session import Session

    if (out / "model").is_dir():
        raise UsageError(f"{out} is a run of `laserrec train`; give baselines a folder of their own.")
    place, settings = choose(device), read_settings(config, assignments, seed)
    dataset, console = Dataset.load(data), progress_console()
    run = RunFolder.begin(out, settings, dataset, data, command=["laserrec", *sys.argv[1:]], resume=True)
    session = Session(out, resume=True, observers=[ProgressBar(console), EpochLog(out)], device=place)
    results: list[Result] = []
    with resumable(shlex.join(["laserrec", *sys.argv[1:]])), run.work(place):
        for name in dict.fromkeys(names):
            results += measure_baseline(name.value, dataset, run, session, console.print, PARTS).values()
    if as_json:
        print_json({"run": str(out), "results": [result.as_dict() for result in results]})
    else:
        show_results(results)
        if settings.collaborative.seen_penalty:
            typer.echo("Every model has a penalty on seen items, trained or chosen on validation.")
        else:
            typer.echo("Popularity and last-item text have a penalty on seen items, chosen on validation; trained models have none.")
