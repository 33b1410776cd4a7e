"""Run the transfer experiment: train on one catalogue, test on another as it is, then with a few of its users to learn from.

    python experiments/transfer.py --data data/scientific data/office data/ml-100k --out runs/experiments

Every dataset is a source and every other one its target. A source is trained on its texts alone, nothing fused, since no id-based
score goes along. At the target the model is tested at once, beside one of which nothing is trained, and trained further on 1 and 5 % of
the users, beside the same training without a start; each start is tested against none on the same users. A target's last row is the
source that was trained there. What is trained is kept and an interrupted experiment goes on. Writes `results/transfer.json` and prints
the table as Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment_runs import derived, made_with, place, train, write_results
from run import difference, differences

from laserrec import Dataset, LaserConfig
from laserrec.comparison.compare import compare_runs
from laserrec.comparison.layout import SHORT, TITLES
from laserrec.data.restrict import keep_users
from laserrec.evaluation.metrics import PROTOCOLS
from laserrec.runs.folder import RunFolder, read_result, transfer_run
from laserrec.system.devices import choose

QUESTION = "What does a model that was trained on one catalogue know of another?"
SOURCE = ("score.fuse_collaborative=false", "stage1.epochs=2", "stage2.epochs=0")
UNTRAINED = ("score.fuse_collaborative=false", "score.calibrate=false", "fit_collaborative.epochs=0", "stage1.epochs=0", "stage2.epochs=0")
TARGET = ("stage1.epochs=2", "stage2.epochs=0")
SHARES = (0.01, 0.05)
METRICS = ("recall@10", "ndcg@10", "recall@50", "mrr")


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="dataset folders, two at least")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--results", type=Path, default=Path(__file__).parents[1] / "results", help="folder of the results")
    parser.add_argument("--set", dest="assignments", nargs="*", default=[], metavar="KEY=VALUE", help="further settings")
    chosen = parser.parse_args()
    if len(chosen.data) < 2:
        parser.error("give two datasets at least")
    found = run(chosen.data, chosen.out / "transfer", chosen.assignments)
    write_results(chosen.results, found)
    sys.stdout.write(table(found))


@dataclass(frozen=True)
class Domains:
    """The datasets, and what was trained on each.

    Attributes:
        out: folder of the runs.
        paths: folders of the datasets.
        data: the datasets, by folder.
        sources: the run trained on each, by folder.
    """

    out: Path
    paths: Sequence[Path]
    data: Mapping[Path, Dataset]
    sources: Mapping[Path, Path]

    @classmethod
    def train(cls, paths: Sequence[Path], out: Path, config: LaserConfig) -> Domains:
        """Train every source that is not trained yet."""
        data = {path: Dataset.load(path) for path in paths}
        return cls(out, paths, data, {path: train(out, f"from {data[path].name}", config, data[path], path) for path in paths})

    def transferred(self, source: Path, target: Path) -> Path:
        """Carry a source over to a target as it is; return the run's folder."""
        name = f"{self.data[source].name} to {self.data[target].name}"
        kept = RunFolder.open(self.sources[source])
        folder = place(self.out, name, 0)
        if not (folder / "run.json").is_file():
            sys.stderr.write(f"{name}\n")
            transfer_run(folder, kept.model, self.data[target], target, command=["python", *sys.argv], device=choose())
        return folder

    def untrained(self, target: Path, config: LaserConfig) -> Path:
        """Evaluate a target with nothing trained at all, which is what transfer has to beat; return the run's folder."""
        return train(self.out, f"nothing to {self.data[target].name}", config, self.data[target], target)

    def continued(self, source: Path | None, target: Path, share: float, config: LaserConfig) -> Path:
        """Train on a share of a target's users, from a source's weights or from none; return the run's folder."""
        path = derived(self.out / f"{self.data[target].name}-{share:g}", keep_users(self.data[target], share))
        start = None if source is None else str(RunFolder.open(self.sources[source]).model)
        name = f"{'nothing' if source is None else self.data[source].name} to {path.name}"
        return train(self.out, name, config.model_copy(update={"start": start}), Dataset.load(path), path)


def run(paths: Sequence[Path], out: Path, further: Sequence[str]) -> dict[str, Any]:
    """Train every source, and test and train it further on every target, unless that is done."""
    domains = Domains.train(paths, out, LaserConfig().override([*SOURCE, *further]))
    begun = LaserConfig().override([*TARGET, *further])
    rows = []
    untrained = LaserConfig().override([*further, *UNTRAINED])
    for target in paths:
        others = [path for path in paths if path != target]
        without = domains.untrained(target, untrained)
        rows.append(row(domains, without, target, 0.0, None))
        rows += [row(domains, domains.transferred(source, target), target, 0.0, source, without) for source in others]
        for share in SHARES:
            without = domains.continued(None, target, share, begun)
            rows.append(row(domains, without, target, share, None))
            rows += [row(domains, domains.continued(source, target, share, begun), target, share, source, without) for source in others]
        rows.append(row(domains, domains.sources[target], target, 1.0, None))
    return {
        "experiment": "transfer",
        "question": QUESTION,
        "datasets": {each.name: each.fingerprint for each in domains.data.values()},
        "settings": {"untrained": [*further, *UNTRAINED], "source": [*SOURCE, *further], "target": [*TARGET, *further]},
        "rows": rows,
    }


def row(domains: Domains, folder: Path, target: Path, share: float, source: Path | None, without: Path | None = None) -> dict[str, Any]:
    """Return a run's figures on test, and how they differ from those of the run without a start."""
    evaluation = read_result(RunFolder.open(folder), "test").evaluation
    figures = {protocol: {metric: float(evaluation.per_case(metric, protocol).mean()) for metric in METRICS} for protocol in PROTOCOLS}
    named = {"target": domains.data[target].name, "source": None if source is None else domains.data[source].name}
    found = {**named, "share_of_users": share, "cases": len(evaluation), "made_with": made_with(folder), "test": figures}
    return found if without is None else found | {"against_none": differences(compare_runs([without, folder]))}


def table(found: Mapping[str, Any]) -> str:
    """Return the test figures as Markdown, a table a protocol."""
    lines = [found["question"]]
    for protocol in PROTOCOLS:
        heads = " | ".join(SHORT[metric] for metric in METRICS)
        lines += [
            "",
            f"Test, {TITLES[protocol]}:",
            "",
            f"| target | of its users | start | {heads} | N@10 against no start |",
            "|---" * (4 + len(METRICS)) + "|",
        ]
        for each in found["rows"]:
            figures = " | ".join(f"{each['test'][protocol][metric]:.4f}".removeprefix("0") for metric in METRICS)
            against = difference(each.get("against_none", {}).get(protocol))
            lines.append(f"| {each['target']} | {each['share_of_users']:.0%} | {each['source'] or '–'} | {figures} | {against} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
