"""Ask trained models which of their users each query expert reads, and whether that depends on what the users are like.

    python experiments/experts.py --run runs/scientific/seed-0 runs/scientific/seed-1 runs/scientific/seed-2

Users are routed as they stand before their test event, which itself is not looked at. The choice of expert is compared with the number of
items in the history, their popularity, and their kind where an attribute divides the catalogue well (`analysis/routing.py`). Nothing is
trained. Writes `results/experts.json` and prints tables as Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from analysis.routing import routing
from experiment_runs import write_results

from laserrec import Laser
from laserrec.comparison.layout import p_text
from laserrec.report.fits import Epoch, read_fits
from laserrec.runs.folder import RunFolder
from laserrec.system.devices import choose

LOAD = "expert_load/"
"""How a log of epochs begins the name of each expert's share."""
QUESTION = "Which users does each query expert read, and does it mean anything?"


def main() -> None:
    """Ask what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, nargs="+", required=True, help="folders of trained runs, such as one a seed")
    parser.add_argument("--data", type=Path, help="folder of their dataset, where it was moved")
    parser.add_argument("--results", type=Path, default=Path(__file__).parents[1] / "results", help="folder of the results")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 or mps; a GPU where there is one")
    chosen = parser.parse_args()
    found = ask(chosen.run, chosen.data, choose(chosen.device))
    write_results(chosen.results, found)
    sys.stdout.write(table(found))


def ask(paths: Sequence[Path], data_path: Path | None, device: torch.device) -> dict[str, Any]:
    """Route the users of every run.

    Args:
        paths: the runs.
        data_path: where their dataset lies now, when it was moved.
        device: where the models are asked.

    Returns:
        What is written as JSON.

    Raises:
        SystemExit: a run has no experts to choose from.
        DataError: its dataset cannot be found or is another one.
        CheckpointError: a path is no run, its training did not get so far, or a file is damaged.
    """
    return {"experiment": "experts", "question": QUESTION, "runs": [describe(path, data_path, device) for path in paths]}


def describe(path: Path, data_path: Path | None, device: torch.device) -> dict[str, Any]:
    """Return who is read by which expert of a run, and how evenly they were used in training."""
    run = RunFolder.open(path)
    model = run.model
    data = run.dataset(data_path)
    found = routing(Laser.load(model, device=device), data)
    if found is None:
        raise SystemExit(f"{path} has no query experts to choose from. Give runs with mformer.experts of 2 or more.")
    logged = [(fit.name, epoch.number, expert_load(epoch)) for fit in read_fits(run) for epoch in fit.epochs]
    loads = [{"fit": fit, "epoch": number, "load": load} for fit, number, load in logged if load]
    # The last two parts of its path identify a run. Results are published, so the rest of the path is left out.
    named = {"run": "/".join(path.parts[-2:]), "dataset": data.name, "fingerprint": data.fingerprint, "seed": run.config.seed}
    return {**named, **asdict(found), "epochs": loads}


def expert_load(epoch: Epoch) -> list[float]:
    """Return the share of training histories that each expert read; empty where the epoch routed nothing."""
    shares = {int(name.removeprefix(LOAD)): share for name, share in epoch.train.items() if name.startswith(LOAD)}
    return [shares[expert] for expert in sorted(shares)]


def table(found: Mapping[str, Any]) -> str:
    """Return what was found as Markdown: for each run a table of the properties, one of each property's kinds, and one of the epochs."""
    return "\n".join([found["question"], *(line for run in found["runs"] for line in run_lines(run))]) + "\n"


def run_lines(run: Mapping[str, Any]) -> list[str]:
    """Return the lines of one run."""
    experts = [f"expert {number + 1}" for number in range(len(run["load"]))]
    lines = ["", f"**{run['run']}** ({run['dataset']}, seed {run['seed']}, {run['users']:,} users)"]
    properties = [
        [each["by"], str(len(each["labels"])), *(f"{each[key]:.4f}" for key in ("information", "chance")), p_text(each["p_value"])]
        for each in run["associations"]
    ]
    lines += ["", *markdown(["property", "kinds", "NMI", "at random", "p"], properties)]
    for each in run["associations"]:
        rows = [[label, *shares(counts)] for label, counts in zip(each["labels"], each["counts"], strict=True)]
        lines += ["", *markdown([each["by"], "users", *experts], [*rows, ["all", *shares(run["load"])]])]
    epochs = [[f"{each['fit']}, {each['epoch']}", *(f"{share:.1%}" for share in each["load"])] for each in run["epochs"]]
    return [*lines, "", *markdown(["fit, epoch", *experts], epochs)] if epochs else lines


def shares(counts: Sequence[int]) -> list[str]:
    """Return how many users there are, and which share of them each expert reads."""
    return [f"{sum(counts):,}", *(f"{count / sum(counts):.1%}" for count in counts)]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table; labels come from the catalogue and may hold a bar."""
    cells = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in cells]


if __name__ == "__main__":
    main()
