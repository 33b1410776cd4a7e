"""Describe charts for Plotly; colours are the page's CSS variables, so that they follow its light and dark themes.

Knows nothing of where the figures come from. Names and labels are plain text and are escaped for Plotly here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from laserrec.report.markup import label

COLOURS = tuple(f"var(--series-{number})" for number in range(8))
"""Colours of series, distinct with every kind of colour vision; their markers differ, too."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "triangle-down", "cross", "circle-open")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid", "dash")
INK, FAINT, RULE, PANEL, PAGE = (f"var(--{name})" for name in ("ink", "faint", "rule", "panel", "page"))

Spec = dict[str, Any]
"""An object of Plotly's schema."""


@dataclass(frozen=True)
class Numbers:
    """What a chart draws, as a table.

    Attributes:
        head: the columns' names.
        rows: as many texts each.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        caption: above the chart; screen readers announce it.
        data: its traces.
        layout: axes and height.
        numbers: what it draws; None where a table beside it shows them, or there are too many.
    """

    caption: str
    data: Sequence[Spec]
    layout: Spec
    numbers: Numbers | None = None

    @property
    def movable(self) -> bool:
        """Whether a reader can move and enlarge the drawing."""
        return bool(self.layout["dragmode"])


@dataclass(frozen=True)
class Series:
    """A line or a group of bars.

    Attributes:
        name: in the legend.
        values: one a label; None where there is none.
    """

    name: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class Kind:
    """A kind of users.

    Attributes:
        name: below its points.
        users: how many there are.
    """

    name: str
    users: int


@dataclass(frozen=True)
class Interval:
    """A figure with its interval.

    Attributes:
        name: whose.
        mean: the figure.
        low: lower end; None where there is no interval.
        high: upper end.
    """

    name: str
    mean: float
    low: float | None = None
    high: float | None = None


def axis(name: str, **more: Any) -> Spec:  # noqa: ANN401 - any of Plotly's settings
    """Return an axis with a title; its labels are never cut off."""
    base = {
        "title": {"text": name, "standoff": 10},
        "automargin": True,
        "gridcolor": RULE,
        "linecolor": FAINT,
        "zerolinecolor": RULE,
        "zeroline": False,
        "fixedrange": True,
    }
    return base | more


def layout(height: int, **more: Any) -> Spec:  # noqa: ANN401 - any of Plotly's settings
    """Return the layout that all charts share."""
    base = {
        "height": height,
        "autosize": True,
        "margin": {"l": 10, "r": 16, "t": 10, "b": 10},
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"bgcolor": PANEL, "bordercolor": FAINT, "font": {"color": INK}, "align": "left"},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom", "traceorder": "normal"},
        "showlegend": False,
        "dragmode": False,
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": FAINT, "activecolor": INK},
        "uirevision": "kept",
    }
    return base | more


def bars(caption: str, labels: Sequence[str], sizes: Sequence[int], x: str, y: str) -> Chart:
    """Draw one bar a label."""
    trace = {
        "type": "bar",
        "x": list(map(label, labels)),
        "y": list(sizes),
        "marker": {"color": COLOURS[0]},
        "hovertemplate": f"%{{x}}: %{{y:,}} {y}<extra></extra>",
    }
    numbers = Numbers([x, y], [[name, f"{size:,}"] for name, size in zip(labels, sizes, strict=True)])
    axes = {"xaxis": axis(x, type="category"), "yaxis": axis(y, tickformat=",~s")}
    return Chart(caption, [trace], layout(280, bargap=0.15, **axes), numbers)


def _rows(labels: Iterable[str], columns: Sequence[Series], form: str) -> list[list[str]]:
    """Return a row a label, with what each column has there."""
    texts = [["–" if value is None else form.format(value) for value in column.values] for column in columns]
    return [list(row) for row in zip(labels, *texts, strict=True)]


def grouped_bars(caption: str, labels: Sequence[str], groups: Sequence[Series], x: str) -> Chart:
    """Draw groups of horizontal bars, the first label at the top."""
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": label(each.name),
            "y": list(map(label, labels)),
            "x": list(each.values),
            "marker": {"color": COLOURS[place % 8]},
            "hovertemplate": "%{y}, %{fullData.name}: %{x:,.1f}<extra></extra>",
        }
        for place, each in enumerate(groups)
    ]
    axes = {"xaxis": axis(x, rangemode="tozero"), "yaxis": axis("", type="category", autorange="reversed")}
    return Chart(caption, traces, layout(110 + 38 * len(labels), barmode="group", showlegend=len(groups) > 1, **axes))


def intervals(caption: str, figures: Sequence[Interval], published: Sequence[Interval], x: str) -> Chart:
    """Draw figures as points with their intervals, the first at the top; published ones are hollow."""
    names = [label(each.name) for each in (*figures, *published)]

    def trace(shown: Sequence[Interval], hollow: bool) -> Spec:
        high = [0.0 if each.high is None else each.high - each.mean for each in shown]
        low = [0.0 if each.low is None else each.mean - each.low for each in shown]
        return {
            "type": "scatter",
            "mode": "markers",
            "x": [each.mean for each in shown],
            "y": [label(each.name) for each in shown],
            "marker": {"color": FAINT if hollow else COLOURS[0], "size": 9, "symbol": "diamond-open" if hollow else "circle"},
            "error_x": {"type": "data", "array": high, "arrayminus": low, "color": COLOURS[0], "thickness": 2, "visible": not hollow},
            "hovertemplate": "%{y}: %{x:.4f}<extra></extra>",
        }

    traces = [trace(figures, hollow=False), *([trace(published, hollow=True)] if published else [])]
    rows = axis("", type="category", categoryorder="array", categoryarray=names[::-1], range=[-0.6, len(names) - 0.4])
    return Chart(caption, traces, layout(80 + 28 * len(names), xaxis=axis(x, rangemode="tozero", nticks=6, tickangle=0), yaxis=rows))


def lines(caption: str, kinds: Sequence[Kind], series: Sequence[Series], x: str, y: str) -> Chart:
    """Draw one line a series over kinds of users, with the number of users below each kind's name."""
    names = [label(kind.name) for kind in kinds]
    ticks = [f"{name}<br>n={short_count(kind.users)}" for name, kind in zip(names, kinds, strict=True)]
    hover = {
        "text": [f"{name} ({kind.users:,} users)" for name, kind in zip(names, kinds, strict=True)],
        "hovertemplate": "%{fullData.name}, %{text}: %{y:.4f}<extra></extra>",
    }
    traces = [line(place, each, names, **hover) for place, each in enumerate(series)]
    below = axis(x, type="category", tickmode="array", tickvals=names, ticktext=ticks, tickfont={"size": 12})
    axes = {"xaxis": below, "yaxis": axis(y, rangemode="tozero", tickformat=".2f")}
    # In a narrow column the legend has a line for each series.
    return Chart(caption, traces, layout(270 + 19 * len(series), showlegend=True, **axes))


def short_count(count: int) -> str:
    """Return a count in at most four letters, to be read below a tick: 943, 1.2k, 14k, 3M."""
    for size, unit in ((10**6, "M"), (10**3, "k")):
        if count >= size - size // 2000:  # what would be written 1000k is 1M
            whole = count / size
            return f"{whole:.1f}".removesuffix(".0") + unit if whole < 9.95 else f"{whole:.0f}{unit}"
    return str(count)


def line(place: int, series: Series, x: Sequence[object], **more: Any) -> Spec:  # noqa: ANN401 - any of Plotly's settings
    """Return one line, whose colour, marker and dashes follow from its place."""
    look = {
        "line": {"color": COLOURS[place % 8], "width": 2, "dash": DASHES[place % 8]},
        "marker": {"color": COLOURS[place % 8], "size": 7, "symbol": SYMBOLS[place % 8]},
        "hovertemplate": "%{fullData.name}, %{x}: %{y:.4f}<extra></extra>",
        "cliponaxis": False,
    }
    return {"type": "scatter", "mode": "lines+markers", "name": label(series.name), "x": list(x), "y": list(series.values), **look, **more}


def curves(caption: str, epochs: Sequence[int], loss: Sequence[float | None], valid: Sequence[Series], best: int) -> Chart:
    """Draw a fit: the loss above, validation metrics below, a rule at the epoch that was kept."""
    training = Series("training loss", loss)
    above = line(0, training, epochs, yaxis="y2")
    below = [line(place, each, epochs) for place, each in enumerate(valid, start=1)]
    rule = {"type": "line", "x0": best, "x1": best, "yref": "paper", "y0": 0, "y1": 1, "line": {"color": FAINT, "width": 1, "dash": "dot"}}
    note = {"x": best, "y": 0, "yref": "paper", "yanchor": "bottom", "text": "kept", "showarrow": False, "font": {"color": FAINT}}
    side = {"xanchor": "right", "xshift": -3} if best > (epochs[-1] + epochs[0]) / 2 else {"xanchor": "left", "xshift": 3}
    names = [f"{epoch}, kept" if epoch == best else str(epoch) for epoch in epochs]
    whole = {**({"nticks": 6} if epochs[-1] > 6 else {"dtick": 1}), "range": [epochs[0] - 0.3, max(epochs[-1], 1) + 0.3]}
    return Chart(
        caption,
        [above, *below],
        layout(
            400,
            showlegend=True,
            shapes=[rule],
            annotations=[note | side],
            xaxis=axis("epoch", **whole),
            yaxis=axis("validation", domain=[0, 0.46], rangemode="tozero", nticks=5),
            yaxis2=axis("loss", domain=[0.54, 1], nticks=5),
        ),
        Numbers(["epoch", training.name, *(each.name for each in valid)], _rows(names, [training, *valid], "{:.4f}")),
    )


@dataclass(frozen=True)
class Points:
    """Points of one kind in a plane.

    Attributes:
        name: in the legend.
        x: coordinates.
        y: coordinates.
        texts: shown when they are pointed at.
        values: colour them by a scale; by their kind where there are none.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    texts: Sequence[str]
    values: Sequence[float] = ()


def plane(caption: str, groups: Sequence[Points], axes: tuple[str, str], scale: Mapping[str, Any]) -> Chart:
    """Draw groups of points; `scale` is the colour bar of points with values."""
    free = {"fixedrange": False, "zeroline": True}
    legend = {"orientation": "h", "x": 0, "y": -0.13, "xanchor": "left", "yanchor": "top", "itemsizing": "constant"}
    sides = {"xaxis": axis(axes[0], **free), "yaxis": axis(axes[1], **free)}
    margin = {"l": 10, "r": 16, "t": 36, "b": 10}
    return Chart(
        caption,
        [_points(place, each, scale) for place, each in enumerate(groups)],
        layout(640, margin=margin, showlegend=True, legend=legend, dragmode="pan", hovermode="closest", **sides),
    )


def _points(place: int, points: Points, scale: Mapping[str, Any]) -> Spec:
    colour: Spec = {"color": COLOURS[place % 8]}
    if points.values:
        colour = {"color": list(points.values), "colorscale": [[0, "var(--low)"], [1, "var(--high)"]], "showscale": True, "colorbar": scale}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": label(points.name),
        "x": list(points.x),
        "y": list(points.y),
        "text": list(map(label, points.texts)),
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"size": 6, "opacity": 0.65, "symbol": SYMBOLS[place % 8], **colour},
    }
