"""Lay a comparison out as grids of text, and grids as Markdown and HTML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from laserrec.comparison.compare import METRICS, SLICED, Compared, Figure, Row, Summary, Table
from laserrec.comparison.published import Published
from laserrec.comparison.statistics import PairedTest
from laserrec.evaluation.metrics import Protocol

SHORT = {"recall@10": "R@10", "ndcg@10": "N@10", "recall@50": "R@50", "ndcg@50": "N@50", "mrr": "MRR"}
LISTS = {
    "coverage@10": ("Coverage", "{:.1%}"),
    "ild@10": ("Diversity", "{:.3f}"),
    "miuf@10": ("Novelty", "{:.2f}"),
    "serendipity@10": ("Serendipity", "{:.4f}"),
    "arp@10": ("Popularity", "{:,.1f}"),
}
"""Column and format of what `ListMeasures` finds of lists of ten."""
DIRECTIONS = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
"""Removes invisible letters that turn the direction of writing, by `str.translate`: in a title they would turn the text behind it, too."""
TITLES = {"full": "seen items ranked too", "filter_seen": "seen items left out"}


@dataclass(frozen=True)
class Grid:
    """A table of text.

    Attributes:
        title: what stands above it.
        head: the columns' names.
        rows: as many texts each as the head has.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def grids(compared: Compared) -> list[Grid]:
    """Lay a comparison out: for each protocol its figures, tests and slices, with the protocol in every title."""
    found = []
    for table in compared.tables:
        title = _title(compared, table.protocol)
        lists = lists_grid({row.name: row.lists for row in table.rows}, title)
        found += [_figures(table.rows, table.published, title), *lists, tests_grid(table, title), slices_grid(table, title)]
    return found


def lists_grid(lists: Mapping[str, Mapping[str, float]], title: str) -> list[Grid]:
    """Lay out what models' lists show beyond the target, by model; no grid where none was measured."""
    rows = [[name, *list_texts(found)] for name, found in lists.items() if LISTS.keys() & found.keys()]
    return [Grid(f"{title}: the lists of ten", ["Model", *(column for column, _ in LISTS.values())], rows)] if rows else []


def list_texts(lists: Mapping[str, float]) -> list[str]:
    """Return what was measured of a model's lists as tables show it."""
    return [form.format(lists[name]) if name in lists else "–" for name, (_, form) in LISTS.items()]


def summary_grids(*summaries: Summary) -> list[Grid]:
    """Lay out the figures of models, each over its seeds and all on the same cases: one grid a protocol, one row a model."""
    first = summaries[0]
    return [_figures([each.rows[protocol] for each in summaries], [], _title(first, protocol)) for protocol in first.rows]


def markdown(compared: Compared) -> str:
    """Return the grids as Markdown."""
    parts = []
    for grid in grids(compared):
        lines = [_line(grid.head), _line(["---"] * len(grid.head)), *map(_line, grid.rows)]
        parts.append(f"**{_plain(grid.title)}**\n\n" + "\n".join(lines))
    return "\n\n".join([*parts, f"Fingerprint of the split: `{compared.fingerprint}`. {NOTE}"]) + "\n"


def html(compared: Compared) -> str:
    """Return the grids as one page that loads nothing."""
    parts = []
    for grid in grids(compared):
        head = "".join(f'<th scope="col">{_escaped(text)}</th>' for text in grid.head)
        body = ""
        for row in grid.rows:
            first, *others = map(_escaped, row)
            body += f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{text}</td>" for text in others) + "</tr>\n"
        table = f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"
        name = _escaped(grid.title)
        parts.append(f'<h2>{name}</h2>\n<div class="scroll" tabindex="0" role="region" aria-label="{name}">{table}</div>')
    foot = f"<p>Fingerprint of the split: <code>{escape(compared.fingerprint)}</code>. {escape(NOTE)}</p>"
    return _PAGE.format(title=_escaped(f"{compared.dataset}: comparison"), body="\n".join([*parts, foot]))


def _escaped(text: str) -> str:
    return escape(text.translate(DIRECTIONS))


FIGURES_NOTE = (
    "Intervals are 95 % bootstrap intervals over users, not corrected; p-values are those of the paired t-test and of Wilcoxon's "
    "signed-rank test, Holm-corrected over the table; d is the mean difference over the deviation of the differences. A user's figures are "
    "averaged over seeds before intervals and tests, which therefore leave out what a seed changes; ± is the deviation over seeds. "
    "Published rows are others' figures on this split, not reproduced here."
)
MEMORY_NOTE = (
    "Peak memory is the most that the process had while the model was trained and evaluated, libraries and what earlier models of the same "
    "command left behind included; on a GPU the device's. What an earlier command had trained is not in it."
)
NOTE = f"{FIGURES_NOTE} {MEMORY_NOTE}"
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 100rem; margin: 2rem auto; padding: 0 1rem; }}
h2 {{ font-size: 1.05rem; margin: 2rem 0 .5rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
.scroll {{ overflow-x: auto; }}
th, td {{ padding: .3rem .5rem; text-align: right; white-space: nowrap; }}
th, td {{ border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent); }}
th:first-child {{ text-align: left; position: sticky; left: 0; background: Canvas; }}
thead th {{ white-space: normal; vertical-align: bottom; }}
tbody th {{ font-weight: 400; white-space: normal; overflow-wrap: anywhere; min-width: 9rem; max-width: min(20rem, 40vw); }}
p {{ color: color-mix(in srgb, currentColor 70%, transparent); max-width: 50rem; }}
code {{ overflow-wrap: anywhere; }}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


def _title(of: Compared | Summary, protocol: Protocol) -> str:
    return f"{of.dataset}, {of.split}, {of.cases:,} users, all items ranked; {TITLES[protocol]}"


def _figures(rows: Sequence[Row], others: Sequence[Published], title: str) -> Grid:
    head = ["Model", *(SHORT[metric] for metric in METRICS), "N@10, 95 %", "Seeds", "Seconds", "Parameters", "Peak memory"]
    return Grid(title, head, [*map(_row, rows), *map(_published, others)])


def _row(row: Row) -> list[str]:
    ends = row.figures["ndcg@10"]
    figures = [figure_text(row.figures[metric]) for metric in METRICS]
    price = [f"{row.seconds:,.0f}" if row.seconds else "–", f"{row.parameters:,}" if row.parameters else "–"]
    return [row.name, *figures, f"{ends.low:.4f}–{ends.high:.4f}", str(row.seeds), *price, memory_text(row)]


def memory_text(row: Row) -> str:
    """Return a model's peak memory as tables show it."""
    return f"{row.peak_memory / 2**30:.2f} GiB" if row.peak_memory else "–"


def figure_text(figure: Figure) -> str:
    """Return a metric as tables show it, over seeds with its deviation."""
    return f"{figure.mean:.4f}" if figure.deviation is None else f"{figure.mean:.4f} ± {figure.deviation:.4f}"


def _published(row: Published) -> list[str]:
    figures = [f"{row.metrics[metric]:.4f}" if metric in row.metrics else "–" for metric in METRICS]
    return [f"published: {row.name}", *figures, *["–"] * 5]


def tests_grid(table: Table, title: str) -> Grid:
    """Lay out the tests of the first model against the others."""
    head = ["Against", "Metric", "Difference", "95 %", "d", "Ahead / behind", "p (t)", "p (Wilcoxon)"]
    return Grid(f"{title}: {table.rows[0].name} against the others", head, [_test(test) for test in table.tests])


def _test(test: PairedTest) -> list[str]:
    ends = f"{test.low:+.4f} to {test.high:+.4f}"
    counts = f"{test.ahead:,} / {test.behind:,}"
    return [
        test.rival,
        SHORT[test.metric],
        f"{test.difference:+.4f}",
        ends,
        "–" if test.effect is None else f"{test.effect:+.3f}",
        counts,
        p_text(test.p_t),
        p_text(test.p_wilcoxon),
    ]


def p_text(value: float) -> str:
    """Return a p-value as tables show it."""
    return "<.0001" if value < 1e-4 else f"{value:.4f}"


def slices_grid(table: Table, title: str) -> Grid:
    """Lay out how every model does on each kind of case."""
    names = [row.name for row in table.rows]
    rows = [[f"{one.by}: {one.label}", f"{one.cases:,}", *(f"{one.values[name]:.4f}" for name in names)] for one in table.slices]
    return Grid(f"{title}: {SHORT[SLICED]} by kind of user and item", ["Slice", "Users", *names], rows)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_plain, cells)) + " |"


def _plain(text: str) -> str:
    """Return text on one line, escaped for Markdown: names come from other people's files."""
    return re.sub(r"([\\`*_|\[\]])", r"\\\1", " ".join(text.translate(DIRECTIONS).split())).replace("<", "&lt;")
