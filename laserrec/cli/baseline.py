"""`laserrec baseline`: train and evaluate what Laser is compared with."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laserrec.baselines.collection import BASELINES, baseline_named
from laserrec.cli.support import Device, UsageError, one_of

if TYPE_CHECKING:
    import torch

    from laserrec.config import LaserConfig
    from laserrec.data.dataset import Dataset
    from laserrec.runs.folder import Result, RunFolder


NAMES = tuple(each.name for each in BASELINES)


def baseline(
    names: Annotated[list[str], typer.Argument(help=f"Which ones: {', '.join(NAMES)}.", callback=one_of(NAMES))],
    data: Annotated[Path, typer.Option(help="Dataset folder.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; each baseline has one below, and what is there is not done again.")],
    config: Annotated[Path | None, typer.Option(help="Settings, TOML or JSON, such as `laserrec tune` finds.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Such as fit_collaborative.epochs=3; repeatable.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of weights, order and dropout. [0]")] = None,
    seeds: Annotated[
        int | None, typer.Option(min=2, help="Train each with this many seeds that follow each other, a run a seed below the folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
    device: Device = None,
) -> None:
    """Train baselines on a dataset and evaluate them on validation and test, with Laser's settings where both have them."""
    from laserrec.cli.support import read_settings
    from laserrec.data.dataset import Dataset
    from laserrec.system.devices import choose

    settings = read_settings(config, assignments, seed)
    numbers = range(settings.seed, settings.seed + (seeds or 1))
    folders = [out] if seeds is None else [out / f"seed-{number}" for number in numbers]
    for folder in [out, *folders]:
        if (folder / "model").is_dir():
            raise UsageError(f"{folder} is a run of `laserrec train`; give baselines a folder of their own.")
    wish = _Wish(list(dict.fromkeys(names)), data, Dataset.load(data), choose(device))
    # All are begun before anything is trained, so that a folder with other settings is refused at once.
    runs = [wish.begin(folder, settings.override([f"seed={number}"])) for folder, number in zip(folders, numbers, strict=True)]
    results = [result for run in runs for result in _measure(run, wish)]
    if seeds is not None:
        _show_seeds(folders, wish.names, as_json)
    else:
        _show(out, results, as_json)
    if not as_json:
        _tell_penalties(settings)


@dataclass(frozen=True)
class _Wish:
    """What the command line asks of every run."""

    names: Sequence[str]
    path: Path
    data: Dataset
    device: torch.device

    def begin(self, folder: Path, settings: LaserConfig) -> RunFolder:
        """Begin a run, or take up the one that is there."""
        from laserrec.runs.folder import RunFolder

        return RunFolder.begin(folder, settings, self.data, self.path, command=["laserrec", *sys.argv[1:]], resume=True)


def _measure(run: RunFolder, wish: _Wish) -> list[Result]:
    """Train and evaluate what a run does not have yet."""
    from laserrec.cli.support import progress_console, resumable
    from laserrec.runs.baselines import measure_baseline
    from laserrec.runs.folder import EVALUATED_SPLITS
    from laserrec.training.observers import EpochLog, ProgressBar

    observers = [ProgressBar(progress_console()), EpochLog(run.path)]
    results: list[Result] = []
    with resumable(shlex.join(["laserrec", *sys.argv[1:]])), run.work(wish.device):
        for name in wish.names:
            results += measure_baseline(baseline_named(name), wish.data, run, observers, EVALUATED_SPLITS, wish.device).values()
    return results


def _show(out: Path, results: Sequence[Result], as_json: bool) -> None:
    from laserrec.cli.show import show_results
    from laserrec.cli.support import print_json

    if as_json:
        print_json({"run": str(out), "results": [result.as_dict() for result in results]})
    else:
        show_results(results)


def _show_seeds(folders: Sequence[Path], names: Sequence[str], as_json: bool) -> None:
    """Show each baseline's means over the seeds, with deviations."""
    from laserrec.cli.show import show_grids
    from laserrec.cli.support import print_json
    from laserrec.comparison.compare import summarise_runs
    from laserrec.comparison.layout import summary_grids
    from laserrec.runs.folder import EVALUATED_SPLITS

    splits = [split for split in EVALUATED_SPLITS if (folders[0] / names[0] / f"ranks-{split}.parquet").is_file()]
    found = [[summarise_runs([folder / name for folder in folders], split) for name in names] for split in splits]
    if as_json:
        print_json({"runs": list(map(str, folders)), "results": [asdict(summary) for of_split in found for summary in of_split]})
    else:
        show_grids([grid for of_split in found for grid in summary_grids(*of_split)])


def _tell_penalties(settings: LaserConfig) -> None:
    if settings.collaborative.seen_penalty:
        typer.echo("Every model has a penalty on seen items, trained or chosen on validation.")
    else:
        typer.echo("Popularity and last-item text have a penalty on seen items, chosen on validation; trained models have none.")
