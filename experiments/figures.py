"""Draw the figures of docs/explanation/results.md, and of the pages of single results, from the results that are committed.

    python experiments/figures.py

Writes SVG to `docs/figures/`, the same bytes from the same results. Needs `pip install 'laserrec[figures]'`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from laserrec.comparison.layout import SHORT, TITLES, p_text
from laserrec.errors import MissingExtraError

try:
    import matplotlib as mpl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise SystemExit(str(MissingExtraError("matplotlib", "figures", "Drawing figures"))) from error

ROOT = Path(__file__).parents[1]
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "laserrec",
    "text.parse_math": False,  # labels come from catalogues
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.09,
    "figure.constrained_layout.w_pad": 0.09,
}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8b5a2b", "#999999")
"""Okabe and Ito's, distinct with every kind of colour vision, and two more."""
MARKERS = "osD^vPX*"
LASER = COLOURS[1]
OTHERS = COLOURS[0]
FAINT = "#767676"
LEAST_SECONDS = 1.0
"""What takes less is drawn here, for a logarithm has no zero."""
LETTER, LINE = 4.9, 10.0
"""Width of a letter and height of a line of the names of points, in points of 1/72 inch."""
LETTERS = 28
"""Of a label from a catalogue."""


def main() -> None:
    """Draw what there are results of."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of the results")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "figures", help="folder of the figures")
    chosen = parser.parse_args()
    sys.stdout.writelines(f"{line}\n" for line in draw(chosen.results, chosen.out))


def draw(results: Path, out: Path) -> list[str]:
    """Draw every figure whose results are there.

    Args:
        results: folder of the results.
        out: folder of the figures.

    Returns:
        For each figure a line that says what was done.
    """
    sources: dict[str, tuple[Callable[[Sequence[Mapping[str, Any]]], Figure], Sequence[str]]] = {
        "cost": (cost, ["office.json", "office-closed-forms.json", "scientific-words-ease.json", "scientific-closed-forms.json"]),
        "main": (main_figure, ["scientific.json"]),
        "cold-items": (cold_items, ["office/cold_items.json", "cold_items.json"]),
        "low-resource": (low_resource, ["low_resource.json"]),
        "experts": (experts, ["experts.json"]),
    }
    lines = []
    for name, (make, files) in sources.items():
        found = [json.loads((results / file).read_text(encoding="utf-8")) for file in files if (results / file).is_file()]
        if not found:
            lines.append(f"{name}: skipped, {' and '.join(str(results / file) for file in files)} not found")
            continue
        out.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context(STYLE):
            make(found).savefig(out / f"{name}.svg", metadata={"Date": None, "Creator": None}, facecolor="white")
        lines.append(f"{name}: {out / f'{name}.svg'}")
    return lines


def cost(found: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw for each catalogue every model's N@10 over the seconds that it took, on one machine."""
    machines = {(each["machine"]["processor"], *each["machine"]["devices"]) for each in found}
    if len(machines) > 1:
        raise SystemExit(f"Seconds of different machines do not compare: {', '.join(map(str, sorted(machines)))}. Leave a result out.")
    catalogues = list(dict.fromkeys(each["dataset"] for each in found))
    figure = Figure(figsize=(8.2, 4.4 * len(catalogues)))
    for axes, name in zip(figure.subplots(len(catalogues), 1, squeeze=False).flat, catalogues, strict=True):
        files = [each for each in found if each["dataset"] == name]
        tables = [table for each in files for table in each["tables"] if table["protocol"] == "full"]
        models = {row["name"]: row for table in reversed(tables) for row in table["rows"]}
        for row in models.values():
            value, laser = row["figures"]["ndcg@10"], row["name"].startswith("Laser")
            seconds = max(row["seconds"], LEAST_SECONDS)
            ends = [[value["mean"] - value["low"]], [value["high"] - value["mean"]]]
            axes.errorbar(seconds, value["mean"], yerr=ends, fmt="o", color=LASER if laser else OTHERS, markersize=7 if laser else 5)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set(xlabel="seconds to train and evaluate (one second and less at the left)", ylabel=SHORT["ndcg@10"], ylim=(0, None))
        axes.margins(x=0.18)
        axes.grid(alpha=0.3)
        title = f"{name.capitalize()}, test, {TITLES['full']}, {files[0]['cases']:,} users"
        axes.set_title(f"{title}; bars are 95 % bootstrap intervals over users")
        name_points(axes, {row["name"].replace("runs/", ""): (max(row["seconds"], LEAST_SECONDS), row) for row in models.values()})
    return figure


def name_points(axes: Axes, points: Mapping[str, tuple[float, Mapping[str, Any]]]) -> None:
    """Write names beside points, the best model's first; one that would stand on another moves down, with a line to its point."""
    axes.figure.draw_without_rendering()  # the layout decides where on the page a point lies
    dots = axes.figure.dpi / 72
    taken: list[tuple[float, float, float]] = []
    for name, (seconds, row) in sorted(points.items(), key=lambda point: -point[1][1]["figures"]["ndcg@10"]["mean"]):
        value = row["figures"]["ndcg@10"]["mean"]
        left, own = axes.transData.transform((seconds, value)) / dots
        right, height = left + 10 + LETTER * len(name), own + 3
        while any(left < end and start < right and abs(height - other) < LINE for start, end, other in taken):
            height -= 1
        taken.append((left, right, height))
        far = {"arrowprops": {"arrowstyle": "-", "color": FAINT, "linewidth": 0.5}} if height < own - LINE / 2 else {}
        weight = "bold" if name.startswith("Laser") else "normal"
        axes.annotate(name, (seconds, value), (8, height - own), textcoords="offset points", fontsize=8, fontweight=weight, **far)


def main_figure(found: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw every model's figures with their intervals: ours, sorted, above published ones."""
    (compared,) = found
    table = next(table for table in compared["tables"] if table["protocol"] == "full")
    models = {row["name"]: row for row in table["rows"]}
    figures = {name: row["figures"] for name, row in models.items()}
    ours = sorted(figures, key=lambda name: -figures[name]["ndcg@10"]["mean"])
    shown = [f"{name} ({models[name]['seeds']} seeds)" if models[name]["seeds"] > 1 else name for name in ours]
    published = sorted(table["published"], key=lambda row: -row["metrics"]["ndcg@10"])
    figure = Figure(figsize=(8.2, 1.1 + 0.21 * (len(ours) + len(published))))
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, metric in ((left, "ndcg@10"), (right, "recall@50")):
        for place, name in enumerate(ours):
            value = figures[name][metric]
            laser = name == "Laser"
            ends = [[value["mean"] - value["low"]], [value["high"] - value["mean"]]]
            axes.errorbar(value["mean"], place, xerr=ends, fmt="o", color=LASER if laser else OTHERS, markersize=7 if laser else 5)
        for place, row in enumerate(published, start=len(ours)):
            axes.plot(row["metrics"][metric], place, "D", color=FAINT, markersize=5, markerfacecolor="white")
        axes.set(xlabel=SHORT[metric], xlim=(0, None))
        axes.axhline(len(ours) - 0.5, color=FAINT, linewidth=0.8, linestyle=":")
        axes.grid(axis="x", alpha=0.3)
    rows(left, [*shown, *(f"published: {row['name']}" for row in published)])
    title = f"{compared['dataset'].capitalize()}, test, {TITLES['full']}, {compared['cases']:,} users"
    figure.suptitle(f"{title}; bars are 95 % bootstrap intervals over users", fontsize=10)
    return figure


def cold_items(found: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw for each catalogue how often each model has a hidden target, and one trained on, among its ten."""
    figure = Figure(figsize=(8.2, 0.9 + 2.7 * len(found)))
    for axes, each in zip(figure.subplots(len(found), 1, squeeze=False).flat, found, strict=True):
        kinds = {name: each["datasets"][0]["kinds"][name] for name in ("hidden", "trained on")}
        shares = {kind: {name: row["recall@10"] for name, row in of["filter_seen"]["models"].items()} for kind, of in kinds.items()}
        names = sorted(shares["hidden"], key=lambda name: (-shares["hidden"][name], -shares["trained on"][name]))
        for place, (kind, colour, marker) in enumerate((("hidden", COLOURS[1], "o"), ("trained on", COLOURS[0], "s"))):
            values = [shares[kind][name] for name in names]
            low, high = zip(*(wilson(value, kinds[kind]["cases"]) for value in values), strict=True)
            ends = [[v - end for v, end in zip(values, low, strict=True)], [end - v for v, end in zip(values, high, strict=True)]]
            heights = [row + 0.24 * place - 0.12 for row in range(len(names))]
            label = f"{kind} ({kinds[kind]['cases']:,} targets)"
            axes.errorbar(values, heights, xerr=ends, fmt=marker, color=colour, markersize=5, label=label)
        rows(axes, names)
        axes.set(xlabel=SHORT["recall@10"], xlim=(-0.005, None))
        scope = f"{each['dataset'].capitalize()}, {each['datasets'][0]['dataset']}, test, {TITLES['filter_seen']}"
        axes.set_title(f"{scope}; bars are 95 % Wilson intervals")
        axes.grid(axis="x", alpha=0.3)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False)
    return figure


def rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of a chart from the top, Laser in bold."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    for label in axes.get_yticklabels():
        label.set_fontweight("bold" if label.get_text().partition(" (")[0] == "Laser" else "normal")


def wilson(share: float, cases: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of cases."""
    z = 1.96
    centre, half = share + z * z / (2 * cases), z * (share * (1 - share) / cases + (z / (2 * cases)) ** 2) ** 0.5
    low, high = (centre - half) / (1 + z * z / cases), (centre + half) / (1 + z * z / cases)
    return min(max(low, 0.0), share), max(min(high, 1.0), share)  # also where a float ends beyond the share


def low_resource(found: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw each model's figures over the users that there were to learn from."""
    datasets = sorted(found[0]["datasets"], key=lambda row: row["learnt_from"]["users"])
    users = [row["learnt_from"]["users"] for row in datasets]
    figure = Figure(figsize=(7.2, 4.2))
    axes = figure.subplots()
    for place, name in enumerate(datasets[0]["kinds"]["all"]["full"]["models"]):
        values = [row["kinds"]["all"]["full"]["models"][name]["ndcg@10"] for row in datasets]
        colour, width = (LASER, 2.4) if name == "Laser" else ((COLOURS[0], *COLOURS[2:])[place % 7], 1.4)
        axes.plot(users, values, color=colour, linewidth=width, marker=MARKERS[place % len(MARKERS)], label=name)
    axes.set_xscale("log")
    axes.set_xticks(users, [f"{row['dataset']}\n({count:,})" for row, count in zip(datasets, users, strict=True)])
    axes.minorticks_off()
    axes.set(xlabel="users to learn from", ylabel=SHORT["ndcg@10"], ylim=(0, None))
    axes.set_title(f"{found[0]['dataset'].capitalize()}, test, {TITLES['full']}, {datasets[0]['kinds']['all']['cases']:,} users")
    axes.grid(alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def experts(found: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw which expert reads whom: a row a run, a column a property."""
    runs = found[0]["runs"]
    columns = max(len(run["associations"]) for run in runs)
    bars = max(len(each["labels"]) for run in runs for each in run["associations"]) + 1
    figure = Figure(figsize=(3.7 * columns, len(runs) * (0.9 + 0.24 * bars) + 0.5))
    panels = figure.subplots(len(runs), columns, squeeze=False)
    for run, line in zip(runs, panels, strict=True):
        for axes, each in zip(line, run["associations"], strict=False):
            shares(axes, each, run["load"])
        for axes in line[len(run["associations"]) :]:
            axes.set_axis_off()
        line[0].set_ylabel(f"{run['dataset']}, seed {run['seed']}")
    handles, names = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=8, frameon=False)
    return figure


def shares(axes: Axes, association: Mapping[str, Any], load: Sequence[int]) -> None:
    """Draw the experts' shares of each kind of users, and of all."""
    counts = [*association["counts"], load]
    starts = [0.0] * (len(association["counts"]) + 1)
    for expert in range(len(load)):
        widths = [row[expert] / sum(row) for row in counts]
        axes.barh(range(len(counts)), widths, left=starts, color=COLOURS[expert % 8], edgecolor="white", label=f"expert {expert + 1}")
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    labels = [text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…" for text in association["labels"]]
    rows(axes, [f"{text} ({sum(row):,})" for text, row in zip([*labels, "all"], counts, strict=True)])
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    p = p_text(association["p_value"])
    beside = f"NMI {association['information']:.4f}, at random {association['chance']:.4f}"
    text = f"{beside}, p {p if p.startswith('<') else f'= {p}'}"
    axes.set_title(f"{association['by']}\n{text}", loc="right")  # names of kinds are long, so there is room to the left


if __name__ == "__main__":
    main()
