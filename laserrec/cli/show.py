"""Tables on stdout: figures of models, recommendations by title, and what a run is predicted to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from laserrec.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from laserrec.comparison.layout import Grid
    from laserrec.laser.explanation import Explanation
    from laserrec.laser.ranking_requests import Recommendation
    from laserrec.runs.estimate import Compared, Plan
    from laserrec.runs.folder import Result

COLUMNS = {"R@10": "recall@10", "N@10": "ndcg@10", "R@50": "recall@50", "N@50": "ndcg@50", "MRR": "mrr"}
PROTOCOL_TITLES = {"full": "seen items ranked too", "filter_seen": "seen items left out"}
SHOWN_HISTORY = 8
BAR = 20
"""Characters of the longest bar."""
TERMS = {
    "language_model": "language model",
    "neighbours": "neighbours",
    "lexical": "shared words",
    "collaborative": "collaborative",
    "cold_start_bonus": "cold-start bonus",
    "seen_penalty": "seen penalty",
}


def show_results(results: Sequence[Result]) -> None:
    """Print one table a protocol: figures under different protocols are not comparable."""
    from rich.console import Console
    from rich.text import Text

    from laserrec.comparison.layout import lists_grid

    console = Console()
    splits = list(dict.fromkeys(result.evaluation.about["split"] for result in results))
    about = results[0].evaluation.about

    def name(result: Result) -> str:
        model, split = result.evaluation.about["model"], result.evaluation.about["split"]
        return str(model) if len(splits) == 1 else f"{model}, {split}"

    scope = f"{about['dataset']}, {' and '.join(splits)}, {len(results[0].evaluation):,} users, all items ranked"
    for protocol in results[0].evaluation.ranks:
        console.print(Text(printable(f"{scope}; {PROTOCOL_TITLES[protocol]}"), style="bold"), soft_wrap=True)
        table = _table("", *COLUMNS, "Seconds", "Parameters")
        for result in results:
            figures = result.evaluation.metrics(protocol)
            price = f"{result.seconds:,.0f}" if result.seconds else "–", _compact(result.parameters) if result.parameters else "–"
            table.add_row(name(result), *(f"{figures[metric]:.4f}" for metric in COLUMNS.values()), *price)
        _print_whole(console, table)
        show_grids(lists_grid({name(result): result.evaluation.lists.get(protocol, {}) for result in results}, PROTOCOL_TITLES[protocol]))


def show_recommendations(history: Sequence[str], found: Sequence[Recommendation], heading: str) -> None:
    """Print a history by titles, the most recent ones, and what to recommend after it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    console.print(Text(printable(heading), style="bold"))
    earlier = len(history) - SHOWN_HISTORY
    if earlier > 0:
        console.print(f"  … {earlier:,} earlier")
    for title in history[-SHOWN_HISTORY:]:
        console.print(Text(printable(f"  {title}")))
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("#", justify="right")
    table.add_column("Id", overflow="fold")
    table.add_column("Title", overflow="fold")
    table.add_column("Score", justify="right", no_wrap=True)
    for rank, item in enumerate(found, start=1):
        table.add_row(str(rank), Text(printable(item.item_id)), Text(printable(item.title)), f"{item.score:.3f}")
    console.print(table)


def show_explanations(explained: Sequence[Explanation]) -> None:
    """Print why each item has its score, at three levels: a sentence, the history's items as bars, terms and expert."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False)
    for rank, one in enumerate(explained, start=1):
        strongest = sorted(one.moves, key=lambda move: -abs(move.by))[:SHOWN_HISTORY]
        longest = abs(strongest[0].by) or 1.0
        bars = [
            f"{move.by:+7.2f} {('█' if move.by > 0 else '░') * round(BAR * abs(move.by) / longest):{BAR}} {move.title}"
            for move in strongest
        ]
        if len(one.moves) > len(strongest):
            bars.append(f"… {len(one.moves) - len(strongest):,} more of your items move it less")
        terms = asdict(one.terms).items()
        computed = [
            "Score: " + " ".join(f"{term:+.3f} ({TERMS[name]})" for name, term in terms if term is not None) + f" = {one.score:.3f}"
        ]
        if one.without_prefix is not None:
            computed.append(
                f"The prefix made from your history moves the score by {one.prefix_moves:+.3f}; without it: {one.without_prefix:.3f}"
            )
        if one.expert is not None:
            computed.append(f"Expert {one.expert} read your history (the router's probability: {one.expert_probability:.2f})")
        console.print(Text(f"{rank}. {one.title}", style="bold"))
        for line in [one.sentence, *bars, *computed]:
            console.print(Padding(Text(line), (0, 0, 0, 3), expand=False))
        console.print()


def show_summary(console: Console, plan: Plan) -> None:
    """Print a plan in a few lines, before a run starts."""
    from laserrec.system.units import duration, gib

    memory, disk = plan.memory, plan.disk
    lines = [
        f"Predicted: {duration(plan.at_most)} at most (fits may stop early), {gib(memory.peak)} of memory of {gib(memory.available)}, "
        f"{gib(disk.texts)} of disk for encoded texts, {gib(disk.run)} for the run."
    ]
    lines += [f"Chosen for this machine: {key} = {value}." for key, value in plan.chosen.items()]
    for line in [*lines, *(f"Warning: {warning}" for warning in plan.warnings)]:
        console.print(line, highlight=False, markup=False)


def show_plan(plan: Plan) -> None:
    """Print everything that a plan predicts."""
    from rich.console import Console

    from laserrec.system.units import duration, gib

    memory, disk = plan.memory, plan.disk
    table = _table("Time", "Once", "An epoch", "Epochs", "At most")
    for phase in plan.phases:
        epochs = (duration(phase.epoch), f"at most {phase.epochs}") if phase.epochs else ("", "")
        table.add_row(phase.name, duration(phase.once), *epochs, duration(phase.at_most))
    table.add_row("together", "", "", "", duration(plan.at_most), style="bold")
    rooms = _table("Room", "Predicted", "There is")
    rooms.add_row("memory, at its peak", gib(memory.peak), gib(memory.available), style="bold")
    rooms.add_row("  process with the language model", gib(memory.process), "")
    rooms.add_row("  encoded texts", gib(memory.texts), "")
    rooms.add_row("  training beside them", gib(memory.training), "")
    rooms.add_row("disk, encoded texts to add", gib(disk.texts), gib(disk.texts_free), style="bold")
    rooms.add_row("  with those that are there", gib(disk.texts_all), "")
    rooms.add_row("disk, the run's folder", gib(disk.run), gib(disk.run_free), style="bold")
    console = Console(highlight=False)
    console.print(table)
    console.print(rooms)
    typer.echo("At a time: " + "; ".join(f"{what} {count}" for what, count in plan.at_once.items()))
    for key, value in plan.chosen.items():
        typer.echo(f"Chosen for this machine: {key} = {value}")
    for warning in plan.warnings:
        typer.echo(f"Warning: {warning}")
    typer.echo(
        f"Measured in {plan.seconds:.0f} s with {plan.threads} threads, on a few steps of each fit. Early stopping may end a fit sooner."
    )


def show_comparison(compared: Sequence[Compared]) -> None:
    """Print what was predicted of a run beside what it took; nothing for a run without a plan."""
    from rich.console import Console

    if not compared:
        return
    table = _table("Predicted and actual", "Epochs", "Predicted", "Actual", "Off by")
    for row in compared:
        table.add_row(row.what, str(row.epochs or ""), *row.texts)
    Console(highlight=False).print(table)
    typer.echo("Predicted time is that of the epochs that were made.")


def show_grids(grids: Sequence[Grid]) -> None:
    """Print tables of text, whole however narrow the terminal is: a cropped figure is a wrong one."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for grid in grids:
        console.print(Text(printable(grid.title), style="bold"), soft_wrap=True)
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for place, name in enumerate(grid.head):
            table.add_column(Text(printable(name)), justify="right" if place else "left", no_wrap=True)
        for row in grid.rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        _print_whole(console, table)


def _print_whole(console: Console, table: Table) -> None:
    """Print a table on lines as long as it needs; Rich would crop cells without a sign that it did."""
    from rich.console import Console

    needed = Console(width=100_000).measure(table).maximum
    (console if needed <= console.width else Console(width=needed)).print(table)


def _table(first: str, *others: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _compact(count: int) -> str:
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return str(count)
