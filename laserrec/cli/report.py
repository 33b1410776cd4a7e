"""`laserrec report`: one page about a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from laserrec.cli.support import Device


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folder of the run; then what stands beside it: runs, models below one, baselines, or seeds of either."),
    ],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The page; report.html in the run's folder when not given.")] = None,
    data: Annotated[Path | None, typer.Option(help="Where the run's dataset lies now, when it was moved.")] = None,
    device: Device = None,
) -> None:
    """Write one page about a run: data, figures with intervals, curves, a map of the items, users by title, cost, settings."""
    from laserrec.cli.support import progress_console
    from laserrec.report.page import write_report
    from laserrec.runs.folder import RunFolder
    from laserrec.system.devices import choose

    first, *others = runs
    folder = RunFolder.open(first)
    path = out or first / "report.html"
    with progress_console().status("Writing the report"):
        write_report(folder, path, data, choose(device), others)
    typer.echo(f"Report: {path} ({path.stat().st_size / 1e6:.1f} MB, opens in any browser, loads nothing)")
