"""Measure quality and speed of Laser with fewer layers of the language model, on one dataset; prints JSON.

Every number of layers gets the same data, seed, sequential recommender (trained once) and epochs; the figures
are those of validation, so that the choice among them does not touch the test events. `untrained` is after the score's scalars are
fitted and before anything else is trained.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.speed.figures import provenance
from laserrec import Dataset, Laser, LaserConfig
from laserrec.training.observers import EpochLog

METRICS = ("recall@10", "ndcg@10", "recall@50")
ID_BASED = "collaborative"


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="dataset folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for the fits, which an interrupted measurement continues")
    parser.add_argument("--layers", type=int, nargs="+", default=[6, 12, 18, 24, 30])
    parser.add_argument("--epochs", type=int, default=2, help="of stage 1; stage 2 is left out")
    parser.add_argument("--set", dest="assignments", nargs="*", default=[], metavar="KEY=VALUE", help="further settings")
    chosen = parser.parse_args()
    data = Dataset.load(chosen.data)
    fixed = [f"stage1.epochs={chosen.epochs}", "stage2.epochs=0", "collaborative.refits=[]", *chosen.assignments]
    rows = []
    for layers in chosen.layers:
        rows.append(measure(data, LaserConfig().override([*fixed, f"llm.layers={layers}"]), chosen.out))
        sys.stderr.write(f"{rows[-1]}\n")
    found = {"benchmark": "layers", **provenance(["python", *sys.argv]), "fingerprint": data.fingerprint, "settings": fixed, "rows": rows}
    json.dump(found, sys.stdout, indent=1)
    sys.stdout.write("\n")


def measure(data: Dataset, config: LaserConfig, out: Path) -> dict[str, Any]:
    """Train around so many layers and return figures and costs."""
    folder, shared = out / f"layers-{config.llm.layers}", out / ID_BASED
    if shared.is_dir() and not (folder / ID_BASED).is_dir():
        shutil.copytree(shared, folder / ID_BASED)
    laser = Laser.fit(data, config, folder=folder, observers=[EpochLog(folder)])
    if not shared.is_dir():
        shutil.copytree(folder / ID_BASED, shared)
    epochs = [json.loads(line) for line in (folder / "stage1" / "metrics.jsonl").read_text().splitlines()]
    figures = [{name: epoch["valid"][name] for name in METRICS} for epoch in epochs]
    return {
        "layers": config.llm.layers,
        "untrained": figures[0],
        "trained": max(figures, key=lambda each: each["ndcg@10"]),
        "seconds_encoding": laser.costs["texts"]["seconds"],
        "seconds_training": laser.costs["laser"]["seconds"],
        "bytes_of_texts": laser.costs["texts"]["bytes"],
    }


if __name__ == "__main__":
    main()
