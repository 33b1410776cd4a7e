"""Time what adding, changing and removing one item of a large catalogue costs: processor milliseconds, of one thread.

`python benchmarks/changes.py` writes an untrained model of 100,000 items, or reads one, and changes it as the service does.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.speed.http_load import synthetic_model
from laserrec.recommender import Laser
from laserrec.serving.ranking import Ranking
from laserrec.serving.store import Item

TIMES = 7


def main() -> None:
    """Time each kind of change."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", help="folder of a model; an untrained one of four layers when unset")
    parser.add_argument("--catalogue", type=int, default=100_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or synthetic_model(Path(folder) / "model", options.catalogue, 4, "smollm2-135m-instruct")
        laser = Laser.load(model, device="cpu")
    ranking, own = Ranking(laser, 100), laser.item_ids
    texts = [{"title": f"{kind} thing {place} of steel and wood"} for kind in ("New", "Changed") for place in range(TIMES)]
    ids = [f"new-{place}" for place in range(TIMES)]
    kinds: dict[str, Callable[[int], object]] = {
        "add": lambda place: ranking.change([Item(ids[place], texts[place])]),
        "change a later one": lambda place: ranking.change([Item(ids[place], texts[TIMES + place])]),
        "change a trained one": lambda place: ranking.change([Item(own[place], texts[TIMES + place])]),
        "read its text": lambda place: laser.encode_histories([[ids[place]]]),
        "remove a later one": lambda place: ranking.change([Item(ids[place], {}, deleted=True)]),
        "remove a trained one": lambda place: ranking.change([Item(own[place], {}, deleted=True)]),
    }
    for kind, change in kinds.items():
        taken = []
        for place in range(TIMES):
            begun = time.process_time()
            change(place)
            taken.append(1000 * (time.process_time() - begun))
        sys.stdout.write(f"{kind:22} {statistics.median(taken):6.0f} ms, at most {max(taken):.0f}\n")


if __name__ == "__main__":
    main()
