"""The sections of a report that tell how the run was trained, what it learnt, what it cost and how to do it again."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from laserrec.comparison.compare import Compared
from laserrec.comparison.layout import MEMORY_NOTE, SHORT, memory_text, p_text
from laserrec.config import LaserConfig
from laserrec.report import charts
from laserrec.report.charts import Points, Series
from laserrec.report.examples import LIST, Example
from laserrec.report.fits import Fit
from laserrec.report.gather import Report
from laserrec.report.item_map import ItemMap
from laserrec.report.kinds import OTHER
from laserrec.report.markup import Html, element, facts, folded, joined, table, title
from laserrec.report.routing import Association, Routing
from laserrec.report.sections import Canvas
from laserrec.runs.folder import flat_settings
from laserrec.system.units import duration, gib

HISTORY = 8


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


def experts_section(fits: Sequence[Fit], routing: Routing | None, canvas: Canvas) -> Html:
    """Show how evenly the query experts are used, and for whom."""
    if routing is None:
        return element("p", "This model has no query experts to choose from.", class_="faint")
    parts = []
    logged = [(f"{fit.name}, {epoch.number}", epoch.expert_load) for fit in fits for epoch in fit.epochs if epoch.expert_load]
    if logged:
        shares = [Series(_expert(e), [load[e] for _, load in logged]) for e in range(len(logged[0][1]))]
        caption = "Share of training histories that each expert read, by epoch"
        parts.append(canvas.place(charts.stacked(caption, [name for name, _ in logged], shares, "fit, epoch", "share")))
    text = (
        f"{routing.users:,} users, as they stand before their test event, are read by the trained model's experts "
        f"({', '.join(f'{_expert(e)}: {count / routing.users:.1%}' for e, count in enumerate(routing.load))}). "
        f"Popularity is the median of the training events that the history's items have. {_taste(routing.attribute)} "
        "Normalised mutual information (NMI) is 0 where the choice of expert does not depend on the property, 1 where it is told by it; "
        "p is that of a permutation test over random reassignments of experts to users, Holm-corrected."
    )
    head = ["Property", "NMI", "At random", "p"]
    rows = [[found.by, f"{found.information:.4f}", f"{found.chance:.4f}", p_text(found.p_value)] for found in routing.associations]
    return joined(
        [
            *parts,
            element("p", text),
            table("Experts against properties", head, rows),
            canvas.row(*(_association(found, routing) for found in routing.associations)),
        ]
    )


def _taste(attribute: str | None) -> str:
    if attribute is None:
        return "No attribute divides the items well enough for kinds of taste."
    return (
        f"Taste is told by how the {attribute} of an item begins, {OTHER!r} for what is rare or missing: the kind that most of the "
        "history's items have, of several the latest one."
    )


def _association(found: Association, routing: Routing) -> charts.Chart:
    counts = [*found.counts, routing.load]
    shares = [Series(_expert(e), [row[e] / sum(row) for row in counts]) for e in range(len(routing.load))]
    return charts.stacked(f"Which expert reads whom, by {found.by}", [*found.labels, "all"], shares, found.by, "share of users")


def _expert(number: int) -> str:
    return f"expert {number + 1}"


def map_section(found: ItemMap, canvas: Canvas) -> Html:
    """Draw the items in the plane, and a few users' paths."""
    places = found.places.round(4).tolist()

    def points(name: str, rows: Sequence[int], texts: Sequence[str], values: Sequence[float] = ()) -> Points:
        return Points(name, [places[row][0] for row in rows], [places[row][1] for row in rows], texts, values)

    every = range(len(places))
    told = [f"{text} · {events:,} training events" for text, events in zip(found.titles, found.events, strict=True)]
    if found.attribute is None:
        values = [round(math.log10(1 + events), 3) for events in found.events]
        kinds, coloured = [points("items", every, told, values)], "training events"
    else:
        names = sorted(set(found.kinds), key=lambda name: (name == OTHER, -found.kinds.count(name), name))
        rows = {name: [row for row in every if found.kinds[row] == name] for name in names}
        kinds = [points(name, rows[name], [told[row] for row in rows[name]]) for name in names]
        coloured = f"how {found.attribute} begins"
    paths = [
        points(f"path of {path.user}", path.items, [f"{step}. {found.titles[row]}" for step, row in enumerate(path.items, start=1)])
        for path in found.paths
    ]
    shown = f"{len(places):,} of {found.catalogue:,} items" if len(places) < found.catalogue else f"All {found.catalogue:,} items"
    axes = (f"component 1, {found.explained[0]:.1%} of variance", f"component 2, {found.explained[1]:.1%} of variance")
    caption = f"{shown} by the first two principal components of their vectors, coloured by {coloured}"
    text = (
        "The map shows two of many directions: items far apart here are so in full, but neighbours here need not be neighbours in full. "
        "A path runs through a user's last items to the test event, the star; point at an item for "
        "its title, choose what is drawn in the legend."
    )
    return joined([element("p", text, class_="faint"), canvas.place(charts.plane(caption, kinds, paths, axes, _SCALE))])


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
    """Show what a few users would have been shown."""
    hits = sum(example.rank <= LIST and not example.repeated for example in found)
    text = (
        f"Users spread evenly over the test cases, as they stood before their test event; lists and ranks leave seen items out. "
        f"{hits} of {len(found)} lists hold what was taken next."
    )
    return joined([element("p", text, class_="faint"), *map(_user, found)])


def _user(example: Example) -> Html:
    earlier = len(example.history) - HISTORY
    history = [element("li", title(text)) for text in example.history[-HISTORY:]]
    if earlier > 0:
        history.insert(0, element("li", f"{earlier:,} earlier", class_="faint"))
    outcome = "had it before, so no list without seen items shows it" if example.repeated else f"ranked {example.rank:,}"
    shown = [
        element("li", title(item.title), " ✓ taken next", class_="hit")
        if item.item_id == example.target
        else element("li", title(item.title))
        for item in example.found
    ]
    return element(
        "div",
        element("h3", "User ", title(example.user)),
        element("div", element("h4", "History, oldest first"), element("ul", *history)),
        element("div", element("h4", "Recommended"), element("ol", *shown)),
        element("p", "Taken next: ", element("b", title(example.following)), f" ({outcome})"),
        class_="user",
    )


def cost_section(report: Report, canvas: Canvas) -> Html:
    """Show what the run took, beside what was predicted where it was."""
    about = report.about
    peak = gib(about["peak_memory"]) if about.get("peak_memory") else "not noted"
    told = facts(
        [
            ("whole run", duration(about["seconds"])),
            ("device", about.get("device", "cpu")),
            ("peak memory", peak),
            ("threads", str(about["threads"])),
        ]
    )
    rows = [[name, _spent(cost["seconds"]), f"{cost['parameters']:,.0f}"] for name, cost in report.costs.items()]
    parts = [told, element("h3", "Parts of the model"), table("Parts of the model", ["Part", "Seconds", "Trained parameters"], rows)]
    others = _others(report.compared)
    if others:
        head = ["Model", "Seconds", "Trained parameters", "Peak memory"]
        parts += [element("h3", "Models beside it"), table("Models beside it", head, others), element("p", MEMORY_NOTE, class_="faint")]
    phases = {name: phase["seconds"] for name, phase in about.get("phases", {}).items()}
    timed = [figure for figure in report.predicted if figure.unit == "s" and figure.what != "time"]
    if timed:
        both = [Series("predicted", [each.predicted for each in timed]), Series("actual", [each.actual for each in timed])]
        caption = "Seconds of each part of the run, as predicted for the epochs that were made and as it was"
        parts += [canvas.place(charts.beside(caption, [each.what for each in timed], both, "seconds")), _predicted(report)]
    elif phases:
        actual = [Series("actual", list(phases.values()))]
        caption, rows = "Seconds of each part of the run", [[name, f"{seconds:,.1f}"] for name, seconds in phases.items()]
        told = folded("The same as a table", table(caption, ["Part", "Seconds"], rows))
        parts += [canvas.place(charts.beside(caption, list(phases), actual, "seconds")), told]
    return joined(parts)


def _others(compared: Compared) -> list[list[str]]:
    return [[row.name, _spent(row.seconds), f"{row.parameters:,}", memory_text(row)] for row in compared.tables[0].rows[1:]]


def _spent(seconds: float) -> str:
    return f"{seconds:,.1f}" if seconds else "–"


def _predicted(report: Report) -> Html:
    head = ["Predicted and actual", "Epochs", "Predicted", "Actual", "Off by"]
    return table(
        "What was predicted and what it took",
        head,
        [[row.what, *(text or "–" for text in (str(row.epochs or ""), *row.texts))] for row in report.predicted],
    )


def repeat_section(about: Mapping[str, Any]) -> Html:
    """Tell how the run was made: command, versions, settings."""
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
