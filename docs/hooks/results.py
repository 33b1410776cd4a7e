"""Lay every file of `results/` out as a page: the question, the command, the tables; and list them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from laserrec.comparison.layout import SHORT, TITLES, p_text

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
FIGURES = {"scientific": "main", "office": "cost", "cold_items": "cold-items", "low_resource": "low-resource", "experts": "experts"}
"""Which files have a figure, drawn by `experiments/figures.py`."""
EXPERIMENTS = {"arms": "run", "datasets": "restricted", "rows": "transfer", "runs": "experts"}
"""Which experiment's own table shows a file, by a key that its files alone have."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page a file, and the list of them."""
    lines = ["# Measured results", "", "Every figure of the documentation comes from one of these files of `results/`.", ""]
    lines += ["| file | data | question |", "|---|---|---|"]
    for path in sorted(RESULTS.rglob("*.json")):
        name = path.relative_to(RESULTS).with_suffix("").as_posix().replace("/", "-")
        found = json.loads(path.read_text(encoding="utf-8"))
        files.append(File.generated(config, f"reference/results/{name}.md", content=page(path.relative_to(ROOT).as_posix(), found)))
        lines.append(f"| [{path.relative_to(RESULTS).as_posix()}](results/{name}.md) | {dataset(found)} | {question(found)} |")
    files.append(File.generated(config, "reference/results.md", content="\n".join(lines) + "\n"))
    return files


def page(name: str, found: Mapping[str, Any]) -> str:
    """Return a file of results as Markdown.

    Args:
        name: path of the file in the repository.
        found: what it holds.
    """
    machine = found.get("machine", found.get("environment", {}))
    facts = {
        "data": dataset(found),
        "fingerprint": found.get("fingerprint"),
        "command": found.get("command"),
        "settings": " ".join(found["settings"]) if isinstance(found.get("settings"), list) else None,
        "date": (found.get("date") or "")[:10],
        "machine": ", ".join(str(machine[key]) for key in ("processor", "torch") if key in machine),
    }
    head = [f"# {Path(name).relative_to('results').with_suffix('')}", "", question(found), ""]
    head += [f"- **{key}**: `{value}`" for key, value in facts.items() if value]
    drawn = FIGURES.get(str(Path(name).relative_to("results").with_suffix("")))
    figure = [f"![The same figures, drawn](../../figures/{drawn}.svg)", ""] if drawn else []
    return "\n".join([*head, "", *figure, *tables(found), f"The file is `{name}`."]) + "\n"


def question(found: Mapping[str, Any]) -> str:
    """Return what a file answers."""
    known = found.get("question") or found.get("what")
    return str(known or f"How good is each model on {found['dataset']}, and is one ahead of another?")


def dataset(found: Mapping[str, Any]) -> str:
    """Return on which data it was measured."""
    several = found.get("datasets")
    if "dataset" in found:
        return str(found["dataset"])
    return ", ".join(several) if isinstance(several, dict) else "scientific"


def tables(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a file's tables: as the experiment itself prints them, as `laserrec compare` does, or as they are."""
    if "tables" in found:
        yield from compared(found)
        return
    if "rows" in found or "arms" in found or "runs" in found or isinstance(found.get("datasets"), list):
        if str(ROOT / "experiments") not in sys.path:
            sys.path.insert(0, str(ROOT / "experiments"))
        key = next(key for key in ("rows", "arms", "runs", "datasets") if key in found)
        yield import_module(EXPERIMENTS[key]).table(found)
        return
    yield from ("```json", json.dumps({key: found[key] for key in ("models", "fits") if key in found}, indent=1), "```", "")


def compared(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tables of `laserrec compare --json`: figures, published ones, paired tests."""
    for table in found["tables"]:
        metrics = list(table["rows"][0]["figures"])
        yield from (f"## Test, {TITLES[table['protocol']]}", "", f"{found['cases']:,} users.", "")
        yield "| | " + " | ".join(SHORT[metric] for metric in metrics) + " | seeds | seconds | trained parameters |"
        yield "|---" * (len(metrics) + 4) + "|"
        for row in sorted(table["rows"], key=lambda row: row["figures"]["ndcg@10"]["mean"]):
            values = [figure(row["figures"][metric]) for metric in metrics]
            seconds = "–" if row["seconds"] is None else f"{row['seconds']:,.0f}"
            yield "| " + " | ".join([row["name"], *values, str(row["seeds"]), seconds, f"{row['parameters'] or 0:,}"]) + " |"
        for row in table.get("published", []):
            values = [f"{row['metrics'][metric]:.4f}"[1:] if metric in row["metrics"] else "" for metric in metrics]
            yield "| " + " | ".join([f"*published:* {row['name']}", *values, "", "", ""]) + " |"
        yield from ("", f"**{table['rows'][0]['name']}** against each, paired on the same users, corrected for their number:", "")
        yield from ("| against | metric | difference | 95 % interval | p (t) | p (Wilcoxon) |", "|---|---|---|---|---|---|")
        for test in table["tests"]:
            ends = f"{test['low']:+.4f} to {test['high']:+.4f}"
            p_values = f"{p_text(test['p_t'])} | {p_text(test['p_wilcoxon'])}"
            yield f"| {test['rival']} | {SHORT[test['metric']]} | {test['difference']:+.4f} | {ends} | {p_values} |"
        yield ""


def figure(value: Mapping[str, Any]) -> str:
    """Return a mean, with its deviation over seeds where there are several."""
    deviation = value["deviation"]
    return f"{value['mean']:.4f}"[1:] + (f" ± {deviation:.4f}".replace("± 0", "±\N{NO-BREAK SPACE}") if deviation else "")
