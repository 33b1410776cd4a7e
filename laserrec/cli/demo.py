"""`laserrec demo`: the main job on the defaults."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laserrec.cli.support import Device

if TYPE_CHECKING:
    import torch

    from laserrec.runs.demo import Demonstration
    from laserrec.runs.folder import RunFolder


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the run; one that is there is continued.")] = Path("runs/demo"),
    data: Annotated[
        Path | None, typer.Option(help="A dataset of your own, prepared with `laserrec data prepare`, in MovieLens' place.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few epochs: shows the way, not the figures.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
    device: Device = None,
) -> None:
    """Train Laser and what it is compared with, on MovieLens 100K or your own data, and show figures and recommendations."""
    from laserrec.cli.show import show_summary
    from laserrec.cli.support import print_json, progress_console, resumable
    from laserrec.data.dataset import Dataset
    from laserrec.runs.demo import demo_config, demo_data, demonstrate, plan_demo
    from laserrec.runs.folder import RunFolder
    from laserrec.system.devices import choose
    from laserrec.training.observers import EpochLog, ProgressBar

    console, place = progress_console(), choose(device)
    folder = data or out / "data"

    command = f"laserrec demo --out {out}{f' --data {data}' if data else ''}{' --quick' if quick else ''}"
    with resumable(command):
        dataset = Dataset.load(data) if data else demo_data()
        config = demo_config(quick)
        plan = None if RunFolder.occupied(out, resume=True) else plan_demo(dataset, config, out, place)
        if plan is not None:
            plan.require_room()
            show_summary(console, plan)
            config = plan.config
        run = RunFolder.begin(out, config, dataset, folder, command=["laserrec", *sys.argv[1:]], resume=True, plan=plan)
        if not folder.exists():
            dataset.save(folder)
        with run.work(place) as clock:
            found = demonstrate(dataset, run, [clock, ProgressBar(console), EpochLog(out)], place)
        run.finish()
        with console.status("Writing the report"):
            report = _report(run, folder, place)
    if as_json:
        console.print(report, highlight=False, markup=False)
        print_json(found.as_dict() | {"predicted": [asdict(figure) for figure in run.compared]})
    else:
        _show(found, run, folder, report)


def _report(run: RunFolder, data: Path, device: torch.device) -> str:
    """Write the run's report, and say where; the demonstration does without it where its packages are not installed."""
    from laserrec.errors import MissingExtraError
    from laserrec.report.page import write_report

    path = run.path / "report.html"
    try:
        write_report(run, path, data, device)
    except MissingExtraError as missing:
        return f"No report was written. {missing}"
    return f"Report, to be opened in a browser: {path}"


def _show(found: Demonstration, run: RunFolder, folder: Path, report: str) -> None:
    from laserrec.cli.show import PROTOCOL_TITLES, show_comparison, show_recommendations, show_results

    out, seconds = run.path, run.about["seconds"]

    show_results(found.results)
    for verdict in found.verdicts:
        typer.echo(f"With {PROTOCOL_TITLES[verdict.protocol]}: {verdict.text}")
    typer.echo("Every model has a penalty on seen items, trained or chosen on validation.")
    typer.echo("Laser's seconds and parameters include those of its sequential recommender; the language model is frozen.\n")
    for example in found.examples:
        show_recommendations(example.history, example.found, f"User {example.user}, who then took: {example.following}")
    show_comparison(run.compared)
    typer.echo(report)
    typer.echo(
        f"Everything is in {out} ({seconds:,.0f} s): run.json, results.json, ranks of every model, and the model itself. Try next:\n"
        f"  laserrec recommend {out} --user {shlex.quote(found.examples[0].user)} -k 5\n"
        f"  laserrec evaluate {out} --split valid\n"
        f"  laserrec data inspect {folder}\n"
        f"  laserrec serve {out}    and open http://127.0.0.1:8000/ in a browser"
    )
