"""`laserrec train`: from a dataset to a trained, evaluated model in a run folder."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laserrec.cli.support import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from laserrec.config import LaserConfig
    from laserrec.data.dataset import Dataset
    from laserrec.planning.plan import Plan
    from laserrec.run_folder import RunFolder
    from laserrec.training.loop import Observer


class Preset(StrEnum):
    """Settings that `--preset` takes."""

    default = "default"
    paper = "paper"


def train(
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    data: Annotated[Path | None, typer.Option(help="Dataset folder; with --resume the run's own by default.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings, TOML or JSON.")] = None,
    preset: Annotated[Preset | None, typer.Option(help="Settings for two cores (default), or the paper's.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Such as stage1.epochs=3; repeatable.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of weights, order and dropout. [0]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the folder, with its settings if none are given.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Predict memory, disk and time, print that, and stop.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard scalars into the run (extra track).")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Train on a dataset, evaluate on validation and test, and keep everything in a run folder."""
    from laserrec.cli.show import show_summary
    from laserrec.cli.support import progress_console, resumable
    from laserrec.config import LaserConfig
    from laserrec.data.dataset import Dataset
    from laserrec.run_folder import RunFolder, train_run

    _check(config, preset, plan, resume)
    earlier = RunFolder.open(out) if resume and (out / "run.json").is_file() else None
    if data is None and earlier is None:
        raise UsageError("--data is needed: the folder that `laserrec data prepare` wrote.")
    chosen = _settings(config, preset, assignments or [], seed)
    place = data or (earlier.data_path if earlier else Path())
    dataset = Dataset.load(place)
    settings = chosen or (earlier.config if earlier else LaserConfig())
    console = progress_console()
    planned = None
    if plan or not RunFolder.occupied(out, resume=resume):
        planned = _predict(console, out, dataset, settings)
    if plan and planned is not None:
        _show_plan(planned, as_json)
        return
    if planned is not None:
        planned.require_room()
        show_summary(console, planned)
    run = RunFolder.begin(
        out, planned.config if planned else settings, dataset, place, command=["laserrec", *sys.argv[1:]], resume=resume, plan=planned
    )
    if run.finished:
        console.print(f"{out} is finished already; these are its results.", highlight=False, markup=False)
    else:
        if planned is None:
            _announce(console, dataset, settings)
        with resumable(f"laserrec train --out {out} --resume"), run.work() as clock:
            train_run(run, dataset, [clock, *_observers(run, console, tensorboard)])
        run.finish()
    _show(run, dataset, as_json)


def _check(config: Path | None, preset: Preset | None, plan: bool, resume: bool) -> None:
    if config and preset:
        raise UsageError('--config and --preset exclude each other; a line preset = "paper" at the top of the file does both.')
    if plan and resume:
        raise UsageError("--plan predicts a new run; leave --resume out. What was predicted of a run stands in its run.json.")


def _predict(console: Console, out: Path, data: Dataset, settings: LaserConfig) -> Plan:
    """Return the plan of a new run, which takes some seconds."""
    from laserrec.planning.preflight import preflight

    _announce(console, data, settings)
    return preflight(data, settings, out)


def _show_plan(plan: Plan, as_json: bool) -> None:
    from laserrec.cli.show import show_plan
    from laserrec.cli.support import print_json

    if as_json:
        print_json(plan.as_dict())
    else:
        show_plan(plan)


def _show(run: RunFolder, data: Dataset, as_json: bool) -> None:
    from laserrec.cli.show import show_comparison, show_results
    from laserrec.cli.support import print_json
    from laserrec.run_folder import read_results

    results, compared = read_results(run), run.compared
    if as_json:
        shown = {"run": str(run.path), "model": str(run.model), "results": [result.as_dict() for result in results]}
        print_json(shown | {"predicted": [asdict(figure) for figure in compared]})
        return
    show_results(results)
    show_comparison(compared)
    typer.echo(f"Model: {run.model}\nNext:  laserrec recommend {shlex.quote(str(run.path))} --user {shlex.quote(data.user_ids[0])}")


def _settings(config: Path | None, preset: Preset | None, assignments: list[str], seed: int | None) -> LaserConfig | None:
    """Return the settings that the options describe; None when there are none."""
    from laserrec.config import LaserConfig

    if config is None and preset is None and not assignments and seed is None:
        return None
    settings = LaserConfig.load(config) if config else LaserConfig.preset(preset.value if preset else "default")
    return settings.override([*assignments, *([] if seed is None else [f"seed={seed}"])])


def _observers(run: RunFolder, console: Console, tensorboard: bool) -> list[Observer]:
    from laserrec.training.observers import EpochLog, ProgressBar, TensorBoardLog

    observers: list[Observer] = [ProgressBar(console), EpochLog(run.path)]
    return [*observers, TensorBoardLog(run.path / "tensorboard")] if tensorboard else observers


def _announce(console: Console, data: Dataset, settings: LaserConfig) -> None:
    users, items = len(data.user_ids), len(data.item_ids)
    console.print(
        f"{data.name}: {users:,} users, {items:,} items, {data.interactions.height:,} interactions; language model {settings.llm.model}",
        highlight=False,
        markup=False,
    )
