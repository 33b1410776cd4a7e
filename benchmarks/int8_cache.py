"""Measure what `llm.cache = "int8"` costs in quality: evaluate a trained model over exact and over rounded texts; prints JSON.

    python benchmarks/int8_cache.py --run runs/scientific

The weights are the same; only the encoded texts differ, which are encoded anew for the rounded ones. Cases are those of validation.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.figures import provenance
from laserrec import Laser
from laserrec.assets import cache_folder
from laserrec.config import LaserConfig
from laserrec.evaluation.metrics import PROTOCOLS
from laserrec.evaluation.statistics import compare
from laserrec.runs.folder import RunFolder

METRICS = ("recall@10", "ndcg@10", "recall@50", "mrr")


def main() -> None:
    """Measure as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run")
    run = RunFolder.open(parser.parse_args().run)
    data = run.dataset()
    evaluations = {}
    with tempfile.TemporaryDirectory() as folder:
        for numbers in ("exact", "int8"):
            model = Path(folder) / numbers
            shutil.copytree(run.model, model)
            LaserConfig.load(model / "config.json").override([f"llm.cache={numbers}"]).save(model / "config.json")
            laser = Laser.load(model)
            laser._system.catalogue.texts.encode_once(cache_folder() / "texts")
            evaluations[numbers] = (laser.evaluate(data, "valid"), laser._system.catalogue.texts.bytes)
    exact, rounded = (evaluations[numbers][0] for numbers in ("exact", "int8"))
    rows: list[dict[str, Any]] = []
    for protocol in PROTOCOLS:
        for metric in METRICS:
            test = compare(rounded.per_case(metric, protocol), exact.per_case(metric, protocol))
            means = {numbers: float(np.mean(each.per_case(metric, protocol))) for numbers, (each, _) in evaluations.items()}
            rows.append(
                {"protocol": protocol, "metric": metric, **means, "difference": test.difference, "low": test.low, "high": test.high}
            )
    same = float(np.mean(exact.ranks["full"] == rounded.ranks["full"]))
    found = {
        "benchmark": "int8_cache",
        **provenance(["python", *sys.argv]),
        "fingerprint": data.fingerprint,
        "cases": len(exact),
        "bytes": {numbers: size for numbers, (_, size) in evaluations.items()},
        "same_rank": same,
        "rows": rows,
    }
    json.dump(found, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
