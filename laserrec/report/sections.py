"""Write the sections of a report about its data and the run's figures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from laserrec.comparison.compare import METRICS, SLICED, TESTED, Compared, Row, Table
from laserrec.comparison.layout import FIGURES_NOTE, LISTS, SHORT, TITLES, Grid, figure_text, list_texts, p_text, slices_grid, tests_grid
from laserrec.report import charts
from laserrec.report.charts import Chart, Interval, Kind, Series
from laserrec.report.markup import Html, element, facts, folded, joined, table
from laserrec.report.population import Population


class Canvas:
    """The charts of a page, each with the HTML of the place where it is drawn.

    Attributes:
        charts: by the id of their place.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self.charts: dict[str, Chart] = {}

    def place(self, chart: Chart) -> Html:
        """Add a chart and return its figure: caption, place, and the same numbers as a table where the chart has them."""
        name = f"chart-{len(self.charts) + 1}"
        self.charts[name] = chart
        style = f"height:{chart.layout['height']}px"
        # Screen readers skip an image's content, so a chart with buttons must not be one.
        role = "group" if chart.movable else "img"
        caption = element("figcaption", chart.caption, id=f"{name}-caption")
        drawn = element("div", id=name, style=style, role=role, aria_labelledby=f"{name}-caption")
        numbers = chart.numbers
        as_table = [folded("The same as a table", table(chart.caption, numbers.head, numbers.rows))] if numbers else []
        return element("figure", caption, drawn, *as_table)

    def row(self, *drawn: Chart, wide: bool = False) -> Html:
        """Add charts and return them side by side where there is room: two share the width, wide ones stand two in a row."""
        return element("div", *map(self.place, drawn), class_="charts two" if wide or len(drawn) == 2 else "charts")


def summary(compared: Compared) -> Html:
    """Return the outcome, one sentence a protocol."""
    return joined(element("p", element("b", f"{TITLES[found.protocol].capitalize()}: "), _verdict(found)) for found in compared.tables)


def _verdict(found: Table) -> str:
    ours, *others = found.rows
    figure = ours.figures[SLICED]
    text = f"{ours.name} has {SHORT[SLICED]} {figure.mean:.4f} (95 % interval {figure.low:.4f} to {figure.high:.4f})"
    if not others:
        return f"{text}; no other model was evaluated beside it."
    rival = max(others, key=lambda row: row.figures[SLICED].mean)
    test = next(test for test in found.tests if (test.rival, test.metric) == (rival.name, SLICED))
    ends = f"{test.difference:+.4f}, {test.low:+.4f} to {test.high:+.4f}; paired t-test, p {_sign(p_text(test.p_t))}, Holm-corrected"
    return f"{text}. The best of the others, {rival.name}, has {rival.figures[SLICED].mean:.4f} (difference {ends})."


def _sign(p_value: str) -> str:
    return p_value.replace("<", "< ") if p_value.startswith("<") else f"= {p_value}"


def data_section(found: Population, canvas: Canvas) -> Html:
    """Show counts of the data, its split, and how long histories and how popular items are."""
    seen = found.inspection
    split = seen.split.kind + "".join(f", {name} {value}" for name, value in seen.split.parameters.items())
    leaks = seen.leaks
    counts = facts(
        [
            ("users", f"{seen.users:,}"),
            ("items", f"{seen.items:,}"),
            ("events", f"{seen.interactions:,}"),
            *((f"events of {split}", f"{count:,}") for split, count in seen.split_interactions.items()),
            *((f"users evaluated on {split}", f"{count:,}") for split, count in seen.cases.items()),
            ("density", f"{seen.density:.3%}"),
            ("split", split),
            ("median history", f"{seen.history_length.median:,.0f} events"),
            ("events of the top tenth of items", f"{seen.top_tenth:.1%}"),
            ("items without a training event", f"{seen.never_trained:,}"),
            ("items without text", f"{seen.without_text:.1%}"),
            ("test targets seen before", f"{seen.seen_targets:.1%}"),
            (
                "leaks into train",
                "none found" if not leaks.found else f"{leaks.same_event + leaks.later_training + leaks.after_cut:,} events",
            ),
        ]
    )
    drawn = canvas.row(
        charts.bars("Events a user", found.lengths.labels, found.lengths.sizes, "events of a user, all parts", "users"),
        charts.bars("Training events an item", found.popularity.labels, found.popularity.sizes, "events of an item in train", "items"),
    )
    known = [element("p", f"This is {seen.known_as}.")] if seen.known_as else []
    return joined([*known, counts, element("p", "Fingerprint of the split: ", element("code", seen.fingerprint)), drawn])


def results_section(compared: Compared, canvas: Canvas) -> Html:
    """Show every model's figures, tests and intervals, one protocol after the other."""
    parts: list[Html] = []
    if len(compared.tables[0].rows) < 2:
        parts.append(
            element("p", "No other model was named, or evaluated in this run's folder, to test against. ", _BASELINES, class_="faint")
        )
    first = compared.tables[0].rows[0]
    seeds = [row for row in compared.tables[0].rows if row.seeds > 1]
    if seeds:
        note = f"Means over seeds with ± the deviation from seed to seed: {', '.join(f'{row.name} over {row.seeds}' for row in seeds)}."
        if first in seeds:
            note += f" All but figures, tests and slices is of the first of them, {first.paths[0]}."
        parts.append(element("p", note, class_="faint"))
    for found in compared.tables:
        scope = f"{compared.dataset}, {compared.split}, {compared.cases:,} users, all items ranked"
        parts += [element("h3", TITLES[found.protocol].capitalize()), element("p", scope, class_="faint")]
        parts += [_figures(found), canvas.row(*(_intervals(found, metric) for metric in TESTED), wide=True)]
        if found.tests:
            grid = tests_grid(found, TITLES[found.protocol])
            parts += [element("h4", f"{found.rows[0].name} against the others, paired"), _grid(grid)]
    return joined([*parts, element("p", FIGURES_NOTE, class_="faint")])


_BASELINES = joined(
    [
        element("code", "laserrec baseline"),
        " and ",
        element("code", "laserrec report RUN BASELINE …"),
        " set them beside it afterwards.",
    ]
)


def _figures(found: Table) -> Html:
    head = ["Model", *(SHORT[metric] for metric in METRICS), *(f"{column}@10" for column, _ in LISTS.values())]
    rows: list[Sequence[str]] = []
    for row in found.rows:
        figures = [row.figures[metric] for metric in METRICS]
        cells = [joined([figure_text(each), element("small", f"{each.low:.4f}–{each.high:.4f}")]) for each in figures]
        rows.append([row.name, *cells, *list_texts(row.lists)])
    for other in found.published:
        published = [f"{other.metrics[metric]:.4f}" if metric in other.metrics else "–" for metric in METRICS]
        rows.append([f"published: {other.name}", *published, *list_texts({})])
    return table(f"Figures, {TITLES[found.protocol]}", head, rows)


def _intervals(found: Table, metric: str) -> Chart:
    ours = [Interval(row.name, row.figures[metric].mean, row.figures[metric].low, row.figures[metric].high) for row in found.rows]
    others = [Interval(f"{row.name}, published", row.metrics[metric]) for row in found.published if metric in row.metrics]
    caption = f"{SHORT[metric]}, {TITLES[found.protocol]}, with 95 % intervals"
    return charts.intervals(caption, ours, others, SHORT[metric])


def _grid(grid: Grid) -> Html:
    return table(grid.title, grid.head, grid.rows)


def slices_section(compared: Compared, canvas: Canvas) -> Html:
    """Show figures by kind of user and item, one protocol after the other."""
    parts = [element("p", "Below each kind stands n, the number of its users.", class_="faint")]
    # The same models in all charts: a line's look is its model's.
    names = _lines(compared.tables[0].rows)
    if len(names) < len(compared.tables[0].rows):
        others = f"the {len(names) - 1} others with the most {SHORT[SLICED]}, {TITLES[compared.tables[0].protocol]}"
        parts.append(element("p", f"Drawn are {names[0]} and {others}; the tables below the lines have all.", class_="faint"))
    for found in compared.tables:
        parts.append(element("h3", TITLES[found.protocol].capitalize()))
        drawn = []
        for by, group in groupby(found.slices, key=lambda one: one.by):
            kinds = list(group)
            series = [Series(name, [kind.values[name] for kind in kinds]) for name in names]
            caption = f"{SHORT[SLICED]} by {by}, {TITLES[found.protocol]}"
            drawn.append(charts.lines(caption, [Kind(kind.label, kind.cases) for kind in kinds], series, by, SHORT[SLICED]))
        parts += [
            canvas.row(*drawn, wide=True),
            folded("The same as a table, with the number of users", _grid(slices_grid(found, TITLES[found.protocol]))),
        ]
    return joined(parts)


def _lines(rows: Sequence[Row]) -> list[str]:
    """Return the names of the first model and the best others in their order, one for each colour of the page."""
    first, *others = rows
    best = sorted(others, key=lambda row: -row.figures[SLICED].mean)[: len(charts.COLOURS) - 1]
    drawn = {row.name for row in (first, *best)}
    return [row.name for row in rows if row.name in drawn]


def section(name: str, heading: str, content: Html) -> Html:
    """Return a section that the page's list of contents links to."""
    return element("section", element("h2", heading), content, id=name)
