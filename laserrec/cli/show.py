"""Tables on stdout: figures of models, and recommendations by title."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from laserrec.recommender import Recommendation
    from laserrec.run_folder import Result

COLUMNS = {"R@10": "recall@10", "N@10": "ndcg@10", "R@50": "recall@50", "N@50": "ndcg@50", "MRR": "mrr"}
PROTOCOL_TITLES = {"all": "seen items ranked too", "unseen": "seen items excluded"}
SHOWN_HISTORY = 8


def show_results(results: Sequence[Result]) -> None:
    """Print one table a protocol: figures under different protocols are not comparable."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    parts = list(dict.fromkeys(result.evaluation.about["part"] for result in results))
    about = results[0].evaluation.about
    scope = f"{about['dataset']}, {' and '.join(parts)}, {len(results[0].evaluation):,} users, all items ranked"
    for protocol in results[0].evaluation.ranks:
        console.print(Text(f"{scope}; {PROTOCOL_TITLES[protocol]}", style="bold"), soft_wrap=True)
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("", no_wrap=True)
        for name in (*COLUMNS, "Seconds", "Parameters"):
            table.add_column(name, justify="right", no_wrap=True)
        for result in results:
            figures = result.evaluation.metrics(protocol)
            model, part = result.evaluation.about["model"], result.evaluation.about["part"]
            price = (f"{result.seconds:,.0f}", _compact(result.parameters)) if result.parameters else ("–", "–")
            table.add_row(
                model if len(parts) == 1 else f"{model}, {part}", *(f"{figures[metric]:.4f}" for metric in COLUMNS.values()), *price
            )
        console.print(table)


def show_recommendations(history: Sequence[str], found: Sequence[Recommendation], heading: str) -> None:
    """Print a history by titles, the most recent ones, and what to recommend after it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    console.print(Text(heading, style="bold"))
    earlier = len(history) - SHOWN_HISTORY
    if earlier > 0:
        console.print(f"  … {earlier:,} earlier")
    for title in history[-SHOWN_HISTORY:]:
        console.print(Text(f"  {title}"))
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("#", justify="right")
    table.add_column("Id", overflow="fold")
    table.add_column("Title", overflow="fold")
    table.add_column("Score", justify="right", no_wrap=True)
    for rank, item in enumerate(found, start=1):
        table.add_row(str(rank), Text(item.item_id), Text(item.title), f"{item.score:.3f}")
    console.print(table)


def _compact(count: int) -> str:
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return str(count)
