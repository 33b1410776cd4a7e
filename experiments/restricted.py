"""Run one experiment on data: the same models on several datasets made harder, and a table of what that costs each of them.

    python experiments/restricted.py low_resource --data data/scientific --out runs/experiments

An experiment is a TOML file in `restricted/`: the question, the settings of Laser, the baselines beside it, and the datasets, each with the
options of `laserrec data restrict`. Baselines share with Laser the sequential recommenders that it fuses. What is trained is kept and an
interrupted experiment goes on. Where items are hidden, the cases whose target is hidden are shown apart. Writes `results/NAME.json` and
prints the tables as Markdown.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from experiment_runs import command_line, derived, made_with, place, train, write_results

from laserrec import Dataset, LaserConfig
from laserrec.baselines.collection import baseline_named
from laserrec.comparison.entries import Entry, read_entries
from laserrec.comparison.layout import SHORT, TITLES
from laserrec.comparison.statistics import paired_tests
from laserrec.data.restrict import hide_items, keep_users
from laserrec.evaluation.metrics import PROTOCOLS
from laserrec.runs.baselines import measure_baseline
from laserrec.runs.folder import RunFolder
from laserrec.system.devices import choose
from laserrec.training.observers import EpochLog

FOLDER = Path(__file__).parent / "restricted"
METRICS = ("recall@10", "ndcg@10", "recall@50", "mrr")


@dataclass(frozen=True)
class Experiment:
    """What a TOML file says.

    Attributes:
        name: the file's.
        question: what it answers.
        seed: of every run and of every draw.
        settings: `section.key=value` of Laser.
        baselines: what `laserrec baseline` calls those beside it.
        datasets: by name, `users` or `hidden_items` as a share; neither for the whole dataset.
    """

    name: str
    question: str
    seed: int
    settings: Sequence[str]
    baselines: Sequence[Any]
    datasets: dict[str, Mapping[str, float]]

    @classmethod
    def read(cls, path: Path) -> Experiment:
        """Read a file; unknown keys are refused by the constructor."""
        return cls(name=path.stem, **tomllib.loads(path.read_text(encoding="utf-8")))


def main() -> None:
    """Run what the command line names."""
    parser = command_line(__doc__, FOLDER)
    parser.add_argument("--datasets", nargs="+", help="these alone")
    chosen = parser.parse_args()
    experiment = Experiment.read(FOLDER / f"{chosen.experiment}.toml")
    found = run(experiment, chosen.data, chosen.out / experiment.name, chosen.datasets, chosen.assignments)
    write_results(chosen.results, found)
    sys.stdout.write(table(found))


def run(experiment: Experiment, data_path: Path, out: Path, names: Sequence[str] | None, further: Sequence[str]) -> dict[str, Any]:
    """Train and evaluate every model on every dataset, unless that is done."""
    whole = Dataset.load(data_path)
    unknown = set(names or ()) - set(experiment.datasets)
    if unknown:
        raise SystemExit(f"{experiment.name} has no dataset {', '.join(sorted(unknown))}; it has {', '.join(experiment.datasets)}.")
    config = LaserConfig().override([*experiment.settings, *further, f"seed={experiment.seed}"])
    rows = []
    for name in names or experiment.datasets:
        path = restricted(whole, data_path, out, name, experiment)
        data = Dataset.load(path)
        folders = measure(experiment, out, name, config, data, path)
        about = {"dataset": name, "fingerprint": data.fingerprint, "made_with": made_with(folders[0]), "learnt_from": learnt(data)}
        rows.append({**about, "kinds": kinds(folders, data, whole)})
    return {
        "experiment": experiment.name,
        "question": experiment.question,
        "dataset": whole.name,
        "fingerprint": whole.fingerprint,
        "settings": [*experiment.settings, *further],
        "seed": experiment.seed,
        "datasets": rows,
    }


def restricted(whole: Dataset, whole_path: Path, out: Path, name: str, experiment: Experiment) -> Path:
    """Return the folder of a dataset, made unless it is there."""
    how = experiment.datasets[name]
    if not how:
        return whole_path
    ((option, share),) = how.items()
    make = {"users": keep_users, "hidden_items": hide_items}[option]
    return derived(place(out, name, experiment.seed).parent / "data", make(whole, share, experiment.seed))


def measure(experiment: Experiment, out: Path, name: str, config: LaserConfig, data: Dataset, path: Path) -> list[Path]:
    """Train Laser and the baselines on one dataset; return their folders, Laser's first."""
    folder = train(out, name, config, data, path)
    run, device = RunFolder.open(folder), choose()
    with run.work(device):
        for baseline in experiment.baselines:
            sys.stderr.write(f"{name}: {baseline}\n")
            measure_baseline(baseline_named(baseline), data, run, [EpochLog(folder)], ("valid", "test"), device)
    return [folder, *(folder / baseline for baseline in experiment.baselines)]


def learnt(data: Dataset) -> dict[str, int]:
    """Return how much there is to learn from."""
    lengths = data.training_histories().lengths
    return {"users": int((lengths > 0).sum()), "events": int(lengths.sum())}


def kinds(folders: Sequence[Path], data: Dataset, whole: Dataset) -> dict[str, Any]:
    """Return the figures of all test cases; where items are hidden, also of those whose target is hidden and of the others."""
    entries = read_entries(folders, "test")
    targets = entries[0].evaluations[0].targets
    found = {"all": np.ones(len(targets), dtype=bool)}
    if any("hidden_items" in restriction for restriction in data.details.get("restricted", [])):
        before, now = (np.bincount(each.training_histories().values, minlength=len(each.item_ids)) > 0 for each in (whole, data))
        found |= {"hidden": (before & ~now)[targets], "trained on": now[targets]}
    cut = {kind: [replace(entry, evaluations=[entry.evaluations[0].take(rows)]) for entry in entries] for kind, rows in found.items()}
    return {kind: figures(models) for kind, models in cut.items() if len(models[0].evaluations[0])}


def figures(models: Sequence[Entry]) -> dict[str, Any]:
    """Return each model's figures by protocol, and the first one's lead in N@10 over each other one, Holm-corrected."""
    found: dict[str, Any] = {"cases": len(models[0].evaluations[0])}
    for protocol in PROTOCOLS:
        rows = {model.name: {metric: float(model.per_case(metric, protocol).mean()) for metric in METRICS} for model in models}
        tests = paired_tests(models[0], models[1:], ["ndcg@10"], protocol)
        leads = {test.rival: {"difference": test.difference, "low": test.low, "high": test.high, "p_t": test.p_t} for test in tests}
        found[protocol] = {"models": rows, "lead_of_the_first": leads}
    return found


def table(found: Mapping[str, Any]) -> str:
    """Return the test figures as Markdown: a table a protocol and kind of case, models by datasets."""
    lines = [f"{found['question']} ({found['dataset']}, seed {found['seed']})"]
    for protocol in PROTOCOLS:
        for kind in dict.fromkeys(kind for row in found["datasets"] for kind in row["kinds"]):
            shown = {row["dataset"]: row["kinds"][kind] for row in found["datasets"] if kind in row["kinds"]}
            cases = " and ".join(dict.fromkeys(f"{each['cases']:,}" for each in shown.values()))
            heads = [f"{name}: {SHORT[metric]}" for name in shown for metric in METRICS[:3]]
            lines += ["", f"Test, {TITLES[protocol]}, {kind} ({cases} cases):", ""]
            lines += ["| | " + " | ".join(heads) + " |", "|---" * (1 + len(heads)) + "|"]
            for model in next(iter(shown.values()))[protocol]["models"]:
                values = [each[protocol]["models"][model][metric] for each in shown.values() for metric in METRICS[:3]]
                lines.append(f"| {model} | " + " | ".join(f"{value:.4f}".removeprefix("0") for value in values) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
