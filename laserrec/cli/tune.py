"""`laserrec tune`: search settings on validation."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laserrec.baselines.collection import TUNABLE
from laserrec.cli.support import Device, one_of

if TYPE_CHECKING:
    from laserrec.runs.tuning.study import Tuning


NAMES = ("laser", *(each.name for each in TUNABLE))


def tune(
    models: Annotated[
        list[str],
        typer.Argument(help=f"Which ones: {', '.join(NAMES)}; all get the same number of trials.", callback=one_of(NAMES)),
    ],
    data: Annotated[Path, typer.Option(help="Dataset folder; only its training and validation events are used.")],
    out: Annotated[Path, typer.Option(help="Folder of the search; one that is there is continued.")],
    trials: Annotated[int, typer.Option(min=1, help="Trials of each model, those of earlier calls included.")] = 20,
    config: Annotated[Path | None, typer.Option(help="Settings that the search departs from, TOML or JSON.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Such as fit_collaborative.epochs=30; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
    device: Device = None,
) -> None:
    """Search settings of models by their validation score, with the same budget for each; needs the extra `tune`."""
    from laserrec.cli.support import print_json, progress_console, read_settings, resumable
    from laserrec.data.dataset import Dataset
    from laserrec.runs.tuning.study import searching
    from laserrec.system.devices import choose
    from laserrec.system.provenance import provenance
    from laserrec.training.observers import ProgressBar

    place, settings = choose(device), read_settings(config, assignments)
    dataset, bar, found = Dataset.load(data), ProgressBar(progress_console()), []
    with resumable(shlex.join(["laserrec", *sys.argv[1:]])):
        for model in models:
            baseline = next((each for each in TUNABLE if each.name == model), None)
            with searching(baseline, dataset, settings, out, place) as search:
                while search.trials < trials:
                    bar.log(f"{model}: trial {search.trials + 1} of {trials}")
                    search.step([bar])
                found.append(search.found)
    if as_json:
        about = {"out": str(out), "data": {"name": dataset.name, "fingerprint": dataset.fingerprint}, **provenance()}
        print_json({**about, "found": [each.as_dict() for each in found]})
    else:
        _show(found, out)


def _show(found: list[Tuning], out: Path) -> None:
    for each in found:
        settings = ", ".join(
            f"{name} = {value:.3g}" if isinstance(value, float) else f"{name} = {value}" for name, value in each.settings.items()
        )
        given = "it diverged" if each.defaults is None else f"{each.defaults:.4f}"
        typer.echo(
            f"{each.model}: {each.score:.4f} on validation (as given: {given}) after {each.trials} trials, {each.pruned} of them stopped "
            f"early.\n  {settings}\n  {out / each.model / 'best.json'}"
        )
