"""Write the tables of README.md and docs/explanation/results.md from the results that are committed.

    python experiments/tables.py

A table stands between two comments. The first one names the files, of one split, and the rows, `*` for all:

    <!-- table of results/scientific.json and results/scientific-closed-forms.json: Laser; SASRec; published VQ-Rec -->
    <!-- end of the table -->
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from laserrec.comparison.layout import SHORT, TITLES

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "docs/explanation/results.md")
PLACE = re.compile(r"(<!-- table of ([^:]+): (.*?) -->\n).*?(<!-- end of the table -->)", re.DOTALL)
METRICS = ("recall@10", "ndcg@10", "recall@50")
PROTOCOLS = ("full", "filter_seen")


def main() -> None:
    """Write every table again."""
    for name in DOCUMENTS:
        path = ROOT / name
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")


def filled(document: str) -> str:
    """Return a document with every table made from its file."""

    def fill(found: re.Match[str]) -> str:
        first, *others = (json.loads((ROOT / path).read_text(encoding="utf-8")) for path in found[2].split(" and "))
        for other in others:
            add_rows(first, other)
        return f"{found[1]}{table(first, found[3].split('; '))}{found[4]}"

    return PLACE.sub(fill, document)


def add_rows(first: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Add the models of another file on the same split that the first one lacks."""
    if first["fingerprint"] != other["fingerprint"]:
        raise SystemExit(f"Results on different splits make no table: {first['fingerprint']} and {other['fingerprint']}.")
    for mine, theirs in zip(first["tables"], other["tables"], strict=True):
        known = {row["name"] for row in mine["rows"]}
        mine["rows"] += [row for row in theirs["rows"] if row["name"] not in known]


def table(compared: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return the figures of models under both protocols as Markdown, the best last, published ones below.

    Args:
        compared: what `laserrec compare --json` wrote.
        names: rows to show, of published ones behind the word "published"; `*` for all.

    Raises:
        SystemExit: a name has no row.
    """
    tables = {each["protocol"]: each for each in compared["tables"]}
    figures = {protocol: {row["name"]: row["figures"] for row in tables[protocol]["rows"]} for protocol in PROTOCOLS}
    rows = figures["full"]
    published = {f"published {row['name']}": row["metrics"] for row in tables["full"].get("published", [])}
    shown = [*rows, *published] if names == ["*"] else names
    if unknown := set(shown) - rows.keys() - published.keys():
        raise SystemExit(f"No row of the results is named {sorted(unknown)}; there are {[*rows, *published]}.")
    titles = [f"{TITLES[protocol]}: {SHORT[METRICS[0]]}" for protocol in PROTOCOLS]
    head = [column for title in titles for column in (title, *(SHORT[metric] for metric in METRICS[1:]))]
    lines = [["", *head], ["---"] * (1 + len(head))]
    for name in sorted(set(shown) & rows.keys(), key=lambda name: rows[name]["ndcg@10"]["mean"]):
        values = [text(figures[protocol][name][metric]) for protocol in PROTOCOLS for metric in METRICS]
        lines.append([f"**{name}**" if name == "Laser" else name, *values])
    for name in (name for name in published if name in shown):
        values = [f"{published[name][metric]:.4f}"[1:] for metric in METRICS]
        lines += [[f"*published:* {name.removeprefix('published ')}", *values, *[""] * len(METRICS)]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def text(figure: Mapping[str, float | None]) -> str:
    """Return a mean, with its deviation over seeds where there are several."""
    deviation = f"±{figure['deviation']:.4f}".replace("±0", "±") if figure["deviation"] else ""
    return f"{figure['mean']:.4f}"[1:] + deviation


if __name__ == "__main__":
    main()
