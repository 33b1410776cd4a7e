"""`laserrec train`: from a dataset to a trained, evaluated model in a run folder."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laserrec.cli.support import Device, Ray, UsageError, Workers, check_workers
from laserrec.errors import printable

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from laserrec.config import LaserConfig
    from laserrec.data.dataset import Dataset
    from laserrec.runs.estimate import Plan
    from laserrec.runs.folder import RunFolder
    from laserrec.system.progress import Observer


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
    seeds: Annotated[
        int | None, typer.Option(min=2, help="Train this many runs, from --seed on, in seed-0, seed-1, … below the folder.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the folder, with its settings if none are given.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Predict memory, disk and time, print that, and stop.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard scalars into the run (extra track).")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
    device: Device = None,
    ray: Ray = None,
    workers: Workers = 1,
) -> None:
    """Train on a dataset, evaluate on validation and test, and keep everything in a run folder."""
    from laserrec.system.devices import choose

    _check(config, preset, plan, resume)
    _check_cluster(ray, workers, plan, tensorboard)
    # On a cluster every worker chooses for itself.
    own, cluster = choose(device if ray is None else "cpu"), None if ray is None else _Cluster(ray, workers)
    wish = _Wish(data, _settings(config, preset, assignments or [], seed), resume, plan, tensorboard, as_json, device, own, cluster)
    if seeds is None:
        _train(out, wish)
    else:
        _train_seeds(out, wish, seeds)


@dataclass(frozen=True)
class _Cluster:
    """Where and by how many workers a run is trained."""

    address: str
    workers: int

    def settings(self, wished: LaserConfig, earlier: RunFolder | None) -> LaserConfig:
        """Return the settings of a run that these workers train: with its own shards; a new run gets as many as give each the same share.

        A run that goes on keeps its number, even 1: another number would also change which noise dropout draws.
        """
        from laserrec.distributed.train import shards_for

        runtime = wished.runtime.over(earlier.config.runtime) if earlier else wished.runtime
        shards = runtime.shards if earlier or runtime.shards > 1 else shards_for(self.workers)
        return wished.model_copy(update={"runtime": runtime.model_copy(update={"shards": shards})})

    def train(self, run: RunFolder, data: Path, device: str | None, console: Console) -> None:
        """Train what is left of a run."""
        from laserrec.distributed.train import train_on_cluster

        def say(line: str) -> None:
            console.print(line, highlight=False, markup=False)

        workers = min(self.workers, run.config.runtime.shards)
        if workers < self.workers:
            say(f"Trains with {workers} worker{'s' * (workers > 1)}, one for each shard of a batch (runtime.shards).")
        train_on_cluster(run, data, self.address, workers, device, say)


@dataclass(frozen=True)
class _Wish:
    """What the command line asks of every run; settings are None where it names none."""

    data: Path | None
    settings: LaserConfig | None
    resume: bool
    plan: bool
    tensorboard: bool
    as_json: bool
    asked_device: str | None
    device: torch.device
    cluster: _Cluster | None


def _train_seeds(out: Path, wish: _Wish, count: int) -> None:
    """Train one run a seed, each in a folder of its own below `out`, and show means and deviations."""
    from laserrec.cli.show import show_grids
    from laserrec.cli.support import print_json
    from laserrec.comparison.compare import summarise_runs
    from laserrec.comparison.layout import summary_grids
    from laserrec.config import LaserConfig
    from laserrec.laser.folder import seed_runs
    from laserrec.runs.folder import EVALUATED_SPLITS, RunFolder

    if wish.plan:
        raise UsageError("--plan predicts one run; leave --seeds out and multiply.")
    begun = seed_runs(out) if wish.resume else []
    if begun:  # what is not said again is as it was
        first = RunFolder.open(begun[0])
        wish = replace(wish, data=wish.data or first.data_path, settings=wish.settings or first.config)
    settings = wish.settings or LaserConfig()
    seeds = range(settings.seed, settings.seed + count)
    folders = [out / f"seed-{number}" for number in seeds]
    for folder in folders:
        RunFolder.occupied(folder, resume=wish.resume)
    for folder, number in zip(folders, seeds, strict=True):
        _train(folder, replace(wish, settings=settings.override([f"seed={number}"])), shown=False)
    summaries = [
        summarise_runs(folders, split) for split in EVALUATED_SPLITS if all((run / f"ranks-{split}.parquet").is_file() for run in folders)
    ]
    if wish.as_json:
        print_json({"runs": [str(folder) for folder in folders], "results": [asdict(summary) for summary in summaries]})
    else:
        show_grids([grid for summary in summaries for grid in summary_grids(summary)])


def _train(out: Path, wish: _Wish, *, shown: bool = True) -> None:
    """Train what is left of one run, and show its results unless that is left to the caller."""
    from laserrec.cli.show import show_summary
    from laserrec.cli.support import progress_console, resumable
    from laserrec.config import LaserConfig
    from laserrec.data.dataset import Dataset
    from laserrec.runs.folder import RunFolder

    earlier = RunFolder.open(out) if wish.resume and (out / "run.json").is_file() else None
    if wish.data is None and earlier is None:
        raise UsageError("--data is needed: the folder that `laserrec data prepare` wrote.")
    place = wish.data or (earlier.data_path if earlier else Path())
    dataset = Dataset.load(place)
    settings = wish.settings or (earlier.config if earlier else LaserConfig())
    if wish.cluster is not None:
        settings = wish.cluster.settings(settings, earlier)
    console = progress_console()
    planned = None
    if wish.cluster is None and (wish.plan or not RunFolder.occupied(out, resume=wish.resume)):
        planned = _predict(console, out, dataset, settings, wish.device)
    if wish.plan and planned is not None:
        _show_plan(planned, wish.as_json)
        return
    if planned is not None:
        planned.require_room()
        show_summary(console, planned)
    run = RunFolder.begin(
        out, planned.config if planned else settings, dataset, place, command=["laserrec", *sys.argv[1:]], resume=wish.resume, plan=planned
    )
    if run.finished:
        console.print(f"{out} is finished already; these are its results.", highlight=False, markup=False)
    else:
        if planned is None:
            _announce(console, dataset, settings)
        for change in run.rounded_otherwise(None if wish.cluster else wish.device):
            console.print(f"Goes on with {change}: the last digits may differ.", highlight=False, markup=False)
        with resumable(_continuation(out, wish)):
            run = _finish(run, dataset, place, wish, console)
    if shown:
        _show(run, dataset, wish.as_json)


def _finish(run: RunFolder, dataset: Dataset, place: Path, wish: _Wish, console: Console) -> RunFolder:
    """Train and evaluate what is left of a run, here or on a cluster, and return the finished run."""
    from laserrec.runs.folder import RunFolder, train_run

    if wish.cluster is None:
        with run.work(wish.device) as clock:
            train_run(run, dataset, [clock, *_observers(run, console, wish.tensorboard)], wish.device)
    else:
        wish.cluster.train(run, place, wish.asked_device, console)
        run = RunFolder.open(run.path)  # the workers have noted what it took
    run.finish()
    return run


def _continuation(out: Path, wish: _Wish) -> str:
    """Return the command that continues what was begun: the one given, if it trains several seeds."""
    words = sys.argv[1:]
    if not any(word == "--seeds" or word.startswith("--seeds=") for word in words):
        device = [] if wish.asked_device is None else ["--device", wish.asked_device]
        cluster = [] if wish.cluster is None else ["--ray", wish.cluster.address, "--workers", str(wish.cluster.workers)]
        return shlex.join(["laserrec", "train", "--out", str(out), "--resume", *device, *cluster])
    return shlex.join(["laserrec", *words, *([] if "--resume" in words else ["--resume"])])


def _check(config: Path | None, preset: Preset | None, plan: bool, resume: bool) -> None:
    if config and preset:
        raise UsageError('--config and --preset exclude each other; a line preset = "paper" at the top of the file does both.')
    if plan and resume:
        raise UsageError("--plan predicts a new run; leave --resume out. What was predicted of a run stands in its run.json.")


def _check_cluster(ray: str | None, workers: int, plan: bool, tensorboard: bool) -> None:
    check_workers(ray, workers)
    if ray is not None and plan:
        raise UsageError("--plan predicts a run on this machine; leave --ray out.")
    if ray is not None and tensorboard:
        raise UsageError("--tensorboard is not written by the workers of a cluster; leave it out and read metrics.jsonl.")


def _predict(console: Console, out: Path, data: Dataset, settings: LaserConfig, device: torch.device) -> Plan:
    """Return the plan of a new run, which takes some seconds."""
    from laserrec.runs.estimate import estimate_run

    _announce(console, data, settings)
    return estimate_run(data, settings, out, device=device)


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
    from laserrec.runs.folder import read_results

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
    from laserrec.cli.support import read_settings

    if config is None and preset is None and not assignments and seed is None:
        return None
    return read_settings(config, assignments, seed, preset.value if preset else "default")


def _observers(run: RunFolder, console: Console, tensorboard: bool) -> list[Observer]:
    from laserrec.training.observers import EpochLog, ProgressBar, TensorBoardLog

    observers: list[Observer] = [ProgressBar(console), EpochLog(run.path)]
    return [*observers, TensorBoardLog(run.path / "tensorboard")] if tensorboard else observers


def _announce(console: Console, data: Dataset, settings: LaserConfig) -> None:
    users, items = len(data.user_ids), len(data.item_ids)
    about = f"{users:,} users, {items:,} items, {data.interactions.height:,} interactions; language model {settings.llm.model}"
    console.print(
        printable(f"{data.name}: {about}"),
        highlight=False,
        markup=False,
    )
