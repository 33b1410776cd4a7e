"""Run one experiment: the same dataset under several settings, and a table of how they differ.

    python experiments/run.py ablations --data data/scientific --out runs/experiments

An experiment is a TOML file beside this one: the question, the seeds, the settings all arms share, and what each arm changes. The first arm
is the reference, and every other one is tested against it. What is trained is kept and an interrupted experiment goes on; arms whose
sequential recommenders have the same settings share them. Writes `results/NAME.json` and prints the table as Markdown.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiment_runs import command_line, finished, made_with, train_all, write_results

from laserrec import Dataset, LaserConfig
from laserrec.comparison.compare import Compared, compare_runs, summarise_runs
from laserrec.comparison.layout import SHORT, TITLES
from laserrec.evaluation.metrics import PROTOCOLS
from laserrec.runs.folder import EVALUATED_SPLITS

FOLDER = Path(__file__).parent
METRICS = ("recall@10", "ndcg@10", "recall@50", "mrr")


@dataclass(frozen=True)
class Experiment:
    """What a TOML file says.

    Attributes:
        name: the file's.
        question: what it answers.
        seeds: of every arm.
        settings: `section.key=value` of every arm.
        arms: by name, what each changes.
    """

    name: str
    question: str
    seeds: Sequence[int]
    settings: Sequence[str]
    arms: dict[str, Sequence[str]]

    @classmethod
    def read(cls, path: Path) -> Experiment:
        """Read a file; unknown keys are refused by the constructor."""
        return cls(name=path.stem, **tomllib.loads(path.read_text(encoding="utf-8")))


def main() -> None:
    """Run what the command line names."""
    chosen = choose_arms(command_line(__doc__, FOLDER))
    experiment = with_seeds(Experiment.read(FOLDER / f"{chosen.experiment}.toml"), chosen.seeds)
    refuse_to_lose(chosen.results / f"{experiment.name}.json", experiment, chosen.out / experiment.name, chosen.arms)
    found = run(experiment, chosen.data, chosen.out / experiment.name, chosen.arms, chosen.assignments, chosen.jobs)
    write_results(chosen.results, found)
    sys.stdout.write(table(found))


def with_seeds(experiment: Experiment, seeds: Sequence[int] | None) -> Experiment:
    """Return an experiment with other seeds, if any are given."""
    return replace(experiment, seeds=sorted(set(seeds))) if seeds else experiment


def choose_arms(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line of an experiment that has arms."""
    parser.add_argument("--seeds", type=int, nargs="+", help="of every arm, instead of the experiment's")
    parser.add_argument("--arms", nargs="+", help="these alone, after the reference, and those that are finished")
    parser.add_argument(
        "--jobs", type=int, default=1, help="runs to train at a time, each in a separate process; a GPU has room for several"
    )
    return parser.parse_args()


def run(
    experiment: Experiment, data_path: Path, out: Path, names: Sequence[str] | None, further: Sequence[str], jobs: int = 1
) -> dict[str, Any]:
    """Train and evaluate every arm that is not there yet, `jobs` runs at a time, and compare them on test."""
    data = Dataset.load(data_path)
    (reference, *others) = experiment.arms
    unknown = set(names or ()) - set(experiment.arms)
    if unknown:
        raise SystemExit(f"{experiment.name} has no arm {', '.join(sorted(unknown))}; it has {', '.join(experiment.arms)}.")
    chosen = [arm for arm in others if names is None or arm in names or finished(out, arm, experiment.seeds)]
    folders: dict[str, list[Path]] = {}
    for group in ([reference], chosen):  # the others share what the reference has trained
        each = [(arm, settings(experiment, arm, seed, further)) for arm in group for seed in experiment.seeds]
        for (arm, _), folder in zip(each, train_all(out, each, data_path, jobs), strict=True):
            folders.setdefault(arm, []).append(folder)
    return {
        "experiment": experiment.name,
        "question": experiment.question,
        "dataset": data.name,
        "fingerprint": data.fingerprint,
        "settings": [*experiment.settings, *further],
        "seeds": list(experiment.seeds),
        "arms": [describe(experiment, arm, folders[reference], folders[arm]) for arm in folders],
    }


def refuse_to_lose(results: Path, experiment: Experiment, out: Path, names: Sequence[str] | None) -> None:
    """Refuse to overwrite results of other seeds, or of arms that are neither asked for nor finished in `out`."""
    if not results.is_file():
        return
    kept = json.loads(results.read_text(encoding="utf-8"))
    seeds = sorted(set(kept["seeds"]) - set(experiment.seeds))
    if seeds:
        raise SystemExit(f"{results} has seed {', '.join(map(str, seeds))}, too. Name all with --seeds, or give other --results.")
    reference, *_ = experiment.arms
    others = [arm["arm"] for arm in kept["arms"] if names is not None and arm["arm"] not in (reference, *names)]
    lost = [arm for arm in others if not finished(out, arm, experiment.seeds)]
    if lost:
        raise SystemExit(
            f"{results} has {', '.join(lost)}, which {out} does not. Name these arms too, give the --out that has them, or other --results."
        )


def settings(experiment: Experiment, arm: str, seed: int, further: Sequence[str]) -> LaserConfig:
    """Return what one arm is trained with."""
    return LaserConfig().override([*experiment.settings, *further, *experiment.arms[arm], f"seed={seed}"])


def describe(experiment: Experiment, arm: str, reference: Sequence[Path], folders: Sequence[Path]) -> dict[str, Any]:
    """Return an arm's figures on validation and test, and how it differs from the reference."""
    found: dict[str, Any] = {"arm": arm, "changes": list(experiment.arms[arm])}
    for split in EVALUATED_SPLITS:
        rows = summarise_runs(folders, split).rows
        found[split] = {
            protocol: {metric: [row.figures[metric].mean, row.figures[metric].deviation] for metric in METRICS}
            for protocol, row in rows.items()
        }
    row = summarise_runs(folders, "test").rows["full"]
    found |= {"seconds": row.seconds, "parameters": row.parameters, "made_with": [made_with(folder) for folder in folders]}
    if folders != reference:
        found["against_reference"] = differences(compare_runs([*reference, *folders]))
    return found


def differences(compared: Compared) -> dict[str, Any]:
    """Return reference minus arm in N@10, by protocol; alone of its table, the arm's p-values are as corrected for three metrics."""
    tests = {table.protocol: next(test for test in table.tests if test.metric == "ndcg@10") for table in compared.tables}
    return {
        protocol: {
            "reference_minus_arm": test.difference,
            "low": test.low,
            "high": test.high,
            "p_t": test.p_t,
            "p_wilcoxon": test.p_wilcoxon,
        }
        for protocol, test in tests.items()
    }


def table(found: dict[str, Any]) -> str:
    """Return the test figures as Markdown, a table a protocol."""
    lines = [f"{found['question']} ({found['dataset']}, seeds {', '.join(map(str, found['seeds']))})"]
    for protocol in PROTOCOLS:
        lines += [
            "",
            f"Test, {TITLES[protocol]}:",
            "",
            "| | " + " | ".join(SHORT[metric] for metric in METRICS) + " | N@10 against the first |",
        ]
        lines.append("|---" * (len(METRICS) + 2) + "|")
        for arm in found["arms"]:
            figures = " | ".join(f"{arm['test'][protocol][metric][0]:.4f}".removeprefix("0") for metric in METRICS)
            against = difference(arm.get("against_reference", {}).get(protocol))
            lines.append(f"| {arm['arm']} | {figures} | {against} |")
    return "\n".join(lines) + "\n"


def difference(test: Mapping[str, float] | None) -> str:
    """Return an arm minus the reference as tables show it, "–" for the reference itself."""
    return f"{-test['reference_minus_arm']:+.4f}, p = {test['p_t']:.3f}" if test else "–"


if __name__ == "__main__":
    main()
