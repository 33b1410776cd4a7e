"""`laserrec demo`: the main job in minutes, on public data."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laserrec.cli.support import Device

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from laserrec.data.dataset import Dataset
    from laserrec.recommender import Laser
    from laserrec.runs.folder import RunFolder

OTHERS_TAKE = "some four minutes on two cores"
"""How long the comparison takes (docs/log.md), as shown to the user."""


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the run; one that is there is continued.")] = Path("runs/demo"),
    device: Device = None,
) -> None:
    """Train a small Laser on MovieLens 100K, show what it recommends and why, and compare it with others."""
    from laserrec.cli.support import progress_console, resumable
    from laserrec.errors import InterruptedTraining
    from laserrec.runs.demo import demo_data
    from laserrec.runs.folder import train_run
    from laserrec.system.devices import choose
    from laserrec.training.observers import EpochLog, ProgressBar

    console, place, began = progress_console(), choose(device), time.monotonic()
    command = shlex.join(["laserrec", "demo", "--out", str(out)])
    with resumable(command):
        data = demo_data()
        run = _begin(out, data, place, console)
        with run.work(place) as clock:
            laser = train_run(run, data, [clock, ProgressBar(console), EpochLog(out)], place)
        run.finish()
        _show_story(data, laser, time.monotonic() - began)
    typer.echo(f"\nNext, other recommenders are trained and tested on the same events: {OTHERS_TAKE}. Ctrl-C skips this.\n")
    try:
        _compare(run, data, place, console)
    except (InterruptedTraining, KeyboardInterrupt):
        typer.echo(f"\nSkipped. To go on with it: {command}")
    folder = shlex.quote(str(out))
    typer.echo(
        "\nA page that shows recommendations while you edit a history, at http://127.0.0.1:8000/ :\n"
        f"  laserrec serve {folder}\n"
        "Your own data:\n"
        "  laserrec data prepare interactions.csv --items items.csv --out data/shop\n"
        "  laserrec train --data data/shop --out runs/shop"
    )


def _begin(out: Path, data: Dataset, place: torch.device, console: Console) -> RunFolder:
    """Begin the run, or take up the one that is there, and say what comes and how long it takes."""
    from laserrec.runs.demo import demo_config
    from laserrec.runs.estimate import estimate_run
    from laserrec.runs.folder import RunFolder
    from laserrec.system.units import duration

    config, plan = demo_config(), None
    if RunFolder.occupied(out, resume=True):
        console.print(f"Going on with what is in {out}.", highlight=False, markup=False)
    else:
        with console.status("Measuring how fast this machine is"):
            plan = estimate_run(data, config, out, device=place)
        plan.require_room()
        config = plan.config
        console.print(
            f"Training a small Laser on MovieLens 100K ({len(data.user_ids):,} people, {len(data.item_ids):,} films; for research only), "
            f"with {config.llm.layers} layers of {config.llm.model}: {duration(plan.at_most)} on this machine. "
            "Ctrl-C stops; the same command goes on.",
            highlight=False,
            markup=False,
        )
    run = RunFolder.begin(out, config, data, out / "data", command=["laserrec", *sys.argv[1:]], resume=True, plan=plan)
    if not (out / "data").exists():
        data.save(out / "data")
    return run


def _show_story(data: Dataset, laser: Laser, seconds: float) -> None:
    """Show lists with reasons, a history of words, and a new item."""
    from laserrec.cli.show import show_explanations, show_recommendations
    from laserrec.runs.demo import NEW, SHOWN, TOP, TYPED, examples, introduce
    from laserrec.system.units import duration

    typer.echo(f"\nAfter {duration(seconds)}, what Laser recommends:\n")
    first, *others = examples(data, laser)
    show_recommendations(first.history, first.found, f"User {first.user}, whose next film was: {first.following}")
    typer.echo("Why the first of them:\n")
    show_explanations(first.found[:1])
    for example in others:
        show_recommendations(example.history, example.found, f"User {example.user}, whose next film was: {example.following}")
    show_recommendations(TYPED, laser.recommend_texts([TYPED], SHOWN)[0], "A history typed as words")
    began, new = time.monotonic(), introduce(data, laser)
    show_recommendations([], new.similar, f"A film that nobody has rated: {NEW['title']}. Its text is enough; most like it are")
    typer.echo(
        f"It is now among the first {TOP} of {new.reached} of {new.audience} users; its best place is {new.place}, with user {new.user} "
        f"after {new.history[-1]}:\n{new.reason.sentence} All of this took {duration(time.monotonic() - began)}, without training."
    )


def _compare(run: RunFolder, data: Dataset, place: torch.device, console: Console) -> None:
    """Train the others with the usual settings, and show one table and a report."""
    from laserrec.cli.show import PROTOCOL_TITLES, show_results
    from laserrec.errors import MissingExtraError
    from laserrec.evaluation.metrics import PROTOCOLS
    from laserrec.report.page import write_report
    from laserrec.runs.demo import Verdict, compare_with_others, others_config
    from laserrec.runs.folder import RunFolder, read_result
    from laserrec.training.observers import EpochLog, ProgressBar

    folder = run.path / "others"
    others = RunFolder.begin(folder, others_config(run.config), data, run.data_path, command=["laserrec", *sys.argv[1:]], resume=True)
    with others.work(place):
        results = compare_with_others(data, others, [ProgressBar(console), EpochLog(folder)], place)
    results.append(read_result(run, "test"))
    show_results(results)
    for protocol in PROTOCOLS:
        typer.echo(f"With {PROTOCOL_TITLES[protocol]}: {Verdict.of(results, protocol).text}")
    typer.echo(
        "Only Laser is small here. Every model has a penalty on seen items, trained or chosen on validation. Laser's seconds and "
        "parameters include those of its sequential recommenders; the language model is frozen."
    )
    path = run.path / "report.html"
    try:
        with console.status("Writing the report"):
            write_report(run, path, None, place, [folder])
    except MissingExtraError as missing:  # the demonstration does without it
        typer.echo(f"No report was written. {missing}")
    else:
        typer.echo(f"Report, to be opened in a browser: {path}")
