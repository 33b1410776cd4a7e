"""Write the sections of a report about training, what the model learnt, what it cost and how to repeat it."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from laserrec.comparison.compare import Compared
from laserrec.comparison.layout import MEMORY_NOTE, SHORT, memory_text
from laserrec.config import LaserConfig
from laserrec.laser.item_map import OTHER, ItemMap
from laserrec.report import charts
from laserrec.report.charts import Points, Series
from laserrec.report.examples import LIST, Example
from laserrec.report.fits import Fit
from laserrec.report.gather import Report
from laserrec.report.markup import Html, element, facts, folded, joined, table, title
from laserrec.report.sections import Canvas
from laserrec.runs.folder import flat_settings
from laserrec.system.units import duration, gib

HISTORY = 8
"""Most recent items shown of a user's history."""


def training_section(fits: Sequence[Fit], canvas: Canvas) -> Html:
    """Draw every fit."""
    if not fits:
        return element("p", "This run kept no log of its fits.", class_="faint")
    return joined(
        [
            element("p", "Epoch 0 is the weights that a fit starts from. Validation ranks seen items too.", class_="faint"),
            canvas.row(*(_curves(fit) for fit in fits)),
        ]
    )


def _curves(fit: Fit) -> charts.Chart:
    metrics = dict.fromkeys([fit.metric, "recall@10"])
    valid = [Series(SHORT.get(name, name), [epoch.valid.get(name) for epoch in fit.epochs]) for name in metrics]
    best = fit.best
    made = f"{fit.epochs[-1].number} epochs in {duration(fit.seconds)}, epoch {best.number} kept"
    caption = f"{fit.name}: {made}, {SHORT.get(fit.metric, fit.metric)} {best.valid[fit.metric]:.4f}"
    return charts.curves(caption, [epoch.number for epoch in fit.epochs], [epoch.loss for epoch in fit.epochs], valid, best.number)


def map_section(found: ItemMap, trained: Sequence[int], canvas: Canvas) -> Html:
    """Draw the items in the plane, of which each has a number of training events."""
    texts = [f"{title} · {events:,} training events" for title, events in zip(found.titles, trained, strict=True)]
    attribute, kinds = next(iter(found.kinds.items()), (None, ()))
    x, y = found.places.round(4).T.tolist()
    if attribute is None:
        colours = [round(math.log10(1 + events), 3) for events in trained]
        groups = [Points("items", x, y, texts, colours)]
        coloured = "training events"
    else:
        groups = []
        for name in sorted(set(kinds), key=lambda kind: (kind == OTHER, -kinds.count(kind), kind)):
            rows = [row for row, kind in enumerate(kinds) if kind == name]
            groups.append(Points(name, [x[row] for row in rows], [y[row] for row in rows], [texts[row] for row in rows]))
        coloured = f"the first word of {attribute}"
    shown = f"{len(texts):,} of {found.catalogue:,} items" if len(texts) < found.catalogue else f"All {found.catalogue:,} items"
    axes = (f"component 1, {found.explained[0]:.1%} of variance", f"component 2, {found.explained[1]:.1%} of variance")
    caption = f"{shown} by the first two principal components of their vectors, coloured by {coloured}"
    text = (
        "The map shows two of many directions: items far apart here are so in full, but neighbours here need not be neighbours in full. "
        "Point at an item for its title; choose in the legend what is drawn."
    )
    return joined([element("p", text, class_="faint"), canvas.place(charts.plane(caption, groups, axes, _SCALE))])


_SCALE: Mapping[str, Any] = {
    "title": {"text": "training events", "side": "top"},
    "orientation": "h",
    "x": 0.5,
    "y": 1.0,
    "yanchor": "bottom",
    "thickness": 10,
    "len": 0.8,
    "tickmode": "array",
    "tickvals": [math.log10(1 + count) for count in (0, 1, 10, 100, 1000, 10_000, 100_000)],
    "ticktext": ["0", "1", "10", "100", "1,000", "10,000", "100,000"],
}


def users_section(found: Sequence[Example]) -> Html:
    """Show the lists recommended to a few users, with the item of their test event."""
    hits = sum(example.rank <= LIST and not example.repeated for example in found)
    text = (
        f"Users spread evenly over the test cases, as they stood before their test event; lists and ranks leave seen items out. "
        f"{hits} of {len(found)} lists hold the item of the test event."
    )
    return joined([element("p", text, class_="faint"), *map(_user, found)])


def _user(example: Example) -> Html:
    earlier = len(example.history) - HISTORY
    history = [element("li", title(text)) for text in example.history[-HISTORY:]]
    if earlier > 0:
        history.insert(0, element("li", f"{earlier:,} earlier", class_="faint"))
    outcome = "had it before, so no list without seen items shows it" if example.repeated else f"ranked {example.rank:,}"
    shown = [
        element("li", title(item.title), " ✓ test event", class_="hit")
        if item.item_id == example.target
        else element("li", title(item.title))
        for item in example.found
    ]
    return element(
        "div",
        element("h3", "User ", title(example.user)),
        element("div", element("h4", "History, oldest first"), element("ul", *history)),
        element("div", element("h4", "Recommended"), element("ol", *shown)),
        element("p", "Test event: ", element("b", title(example.following)), f" ({outcome})"),
        class_="user",
    )


def cost_section(report: Report, canvas: Canvas) -> Html:
    """Show time, memory and parameters of the run and the models beside it, with the plan's estimates where it has them."""
    about = report.about
    peak = gib(about["peak_memory"]) if about.get("peak_memory") else "not noted"
    whole = facts(
        [
            ("whole run", duration(about["seconds"])),
            ("device", about.get("device", "cpu")),
            ("peak memory", peak),
            ("threads", str(about["threads"])),
        ]
    )
    rows = [[name, _spent(cost["seconds"]), f"{cost['parameters']:,.0f}"] for name, cost in report.costs.items()]
    parts = [whole, element("h3", "Parts of the model"), table("Parts of the model", ["Part", "Seconds", "Trained parameters"], rows)]
    others = _others(report.compared)
    if others:
        head = ["Model", "Seconds", "Trained parameters", "Peak memory"]
        parts += [element("h3", "Models beside it"), table("Models beside it", head, others), element("p", MEMORY_NOTE, class_="faint")]
    phases = {name: phase["seconds"] for name, phase in about.get("phases", {}).items()}
    timed = [figure for figure in report.predicted if figure.unit == "s" and figure.what != "time"]
    if timed:
        both = [Series("predicted", [each.predicted for each in timed]), Series("actual", [each.actual for each in timed])]
        caption = "Seconds of each part of the run: predicted for the epochs that were made, and actual"
        parts += [canvas.place(charts.grouped_bars(caption, [each.what for each in timed], both, "seconds")), _predicted(report)]
    elif phases:
        actual = [Series("actual", list(phases.values()))]
        caption = "Seconds of each part of the run"
        rows = [[name, f"{seconds:,.1f}"] for name, seconds in phases.items()]
        as_table = folded("The same as a table", table(caption, ["Part", "Seconds"], rows))
        parts += [canvas.place(charts.grouped_bars(caption, list(phases), actual, "seconds")), as_table]
    return joined(parts)


def _others(compared: Compared) -> list[list[str]]:
    return [[row.name, _spent(row.seconds), f"{row.parameters:,}", memory_text(row)] for row in compared.tables[0].rows[1:]]


def _spent(seconds: float) -> str:
    return f"{seconds:,.1f}" if seconds else "–"


def _predicted(report: Report) -> Html:
    head = ["Predicted and actual", "Epochs", "Predicted", "Actual", "Off by"]
    return table(
        "Estimates and actual figures",
        head,
        [[row.what, *(text or "–" for text in (str(row.epochs or ""), *row.texts))] for row in report.predicted],
    )


def repeat_section(about: Mapping[str, Any]) -> Html:
    """Show how the run was made: command, versions, settings."""
    environment: Mapping[str, Any] = {"laserrec": about["version"], **about.get("environment", {})}
    own, usual = flat_settings(about["config"]), flat_settings(LaserConfig().model_dump(mode="json"))
    changed = [[name, _value(value), _value(usual.get(name))] for name, value in own.items() if value != usual.get(name)]
    differences = [
        element("p", "Settings that depart from the defaults:"),
        table("Settings that depart from the defaults", ["Setting", "This run", "Default"], changed, texts=3),
    ]
    return joined(
        [
            element("p", "Command:"),
            element("pre", shlex.join(about["command"])),
            facts([("begun", about["started"]), ("finished", about.get("finished") or "not yet")]),
            element(
                "p",
                "Environment that the run was begun in:" if "environment" in about else "Of its environment this run noted the version:",
            ),
            facts((name, str(value)) for name, value in environment.items()),
            *(differences if changed else [element("p", "All settings are the defaults.")]),
            folded("All settings", element("pre", json.dumps(about["config"], indent=2, ensure_ascii=False))),
            element("p", f"Dataset {about['data']['name']}, fingerprint ", element("code", about["data"]["fingerprint"])),
        ]
    )


def _value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
