"""`laserrec export`: vectors of items and users for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from laserrec.cli.support import Device, UsageError


def export(
    run: Annotated[str, typer.Argument(help="Folder of a run, folder of a model, or Hugging Face repository hf:owner/name.")],
    out: Annotated[Path, typer.Option(help="Folder for items.parquet and users.parquet.")],
    users: Annotated[bool, typer.Option("--users/--no-users", help="Write the users' vectors, too.")] = True,
    data: Annotated[Path | None, typer.Option(help="Dataset whose users are written. [the run's]")] = None,
    device: Device = None,
) -> None:
    """Write item and user vectors as Parquet, for map viewers and vector databases."""
    if data is not None and not users:
        raise UsageError("--data is where users are looked up; leave it out, or leave --no-users out.")
    from laserrec.cli.recommend import users_of
    from laserrec.cli.support import progress_console
    from laserrec.recommender import Laser
    from laserrec.runs.vectors import export_vectors
    from laserrec.system.progress import watched
    from laserrec.training.observers import ProgressBar

    dataset, console = users_of(run, data) if users else None, progress_console()
    with console.status("Loading the model"):
        laser = Laser.load(run, device=device)
    with watched([ProgressBar(console)] if dataset else [], "users", len(dataset.user_ids) if dataset else 0) as progress:
        written = export_vectors(laser, dataset, out, progress)
    for path in written:
        typer.echo(str(path))
