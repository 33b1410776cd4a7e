"""Measure the same random lists with laserrec and with RecTools' own metrics, and print the largest difference as JSON.

Runs in RecTools' environment (requirements.txt) with laserrec's source on the path: its measures need no more than torch, numpy and polars.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray
from rectools.metrics import AvgRecPopularity, CatalogCoverage, IntraListDiversity, MeanInvUserFreq, Serendipity
from rectools.metrics.distances import PairwiseDistanceCalculator
from sklearn.feature_extraction.text import TfidfVectorizer

from laserrec.data.dataset import Dataset
from laserrec.data.splits import SplitInfo
from laserrec.data.tables import EVENT_TYPES
from laserrec.evaluation.lists import ListMeasures

WORDS = ("red", "blue", "pen", "ink", "paper", "for", "school", "office")
TRIALS, K = 50, 5


class TextDistance(PairwiseDistanceCalculator):
    """1 − the cosine of two items' TF-IDF vectors, by scikit-learn."""

    def __init__(self, titles: list[str]) -> None:
        self.vectors = TfidfVectorizer(sublinear_tf=True).fit_transform(titles).toarray()

    def _get_distances_for_item_pairs(self, items_0: NDArray[np.int64], items_1: NDArray[np.int64]) -> NDArray[np.float64]:
        one, other = (self.vectors[np.asarray(items, np.int64)] for items in (items_0, items_1))
        return 1 - (one * other).sum(1)


def trial(seed: int) -> dict[str, tuple[float, float]]:
    """Draw a shop and lists, and return each figure by laserrec and by RecTools."""
    draw = np.random.default_rng(seed)
    items, users = int(draw.integers(6, 40)), int(draw.integers(1, 30))
    titles = [" ".join(draw.choice(WORDS, draw.integers(1, 6))) for _ in range(items)]
    # Some items are in nobody's history, some in one twice.
    training = [(user, int(item)) for user in range(users) for item in draw.zipf(1.5, draw.integers(1, 9)) % items]
    lists = np.stack([draw.permutation(items)[:K] for _ in range(users)])
    for row in lists:
        row[draw.integers(1, K + 1) :] = -1
    targets = draw.integers(0, items, users)

    names = [f"{number:03}" for number in range(max(items, users))]
    rows = [(names[user], names[item], 0, "train") for user, item in training]
    events = pl.DataFrame(rows, schema=dict(EVENT_TYPES), orient="row")
    catalogue = pl.DataFrame({"item_id": names[:items], "title": titles})
    ours = ListMeasures.of(Dataset.build("drawn", catalogue, events, SplitInfo("source", {}))).measure(lists, targets)

    owner, place = (lists >= 0).nonzero()
    listed = pd.DataFrame({"user_id": owner, "item_id": lists[owner, place], "rank": place + 1})
    before = pd.DataFrame(training, columns=["user_id", "item_id"])
    next_ones = pd.DataFrame({"user_id": np.arange(users), "item_id": targets})
    theirs = {
        "coverage": CatalogCoverage(K, normalize=True).calc(listed, range(items)),
        "ild": IntraListDiversity(K, TextDistance(titles)).calc(listed),
        "miuf": MeanInvUserFreq(K).calc(listed, before),
        "serendipity": Serendipity(K).calc(listed, next_ones, before, range(items)),
        "arp": AvgRecPopularity(K).calc(listed, before),
    }
    return {name: (ours[f"{name}@{K}"], float(value)) for name, value in theirs.items()}


def main() -> None:
    """Compare, and end with an error where a figure differs by more than rounding."""
    trials = [trial(seed) for seed in range(TRIALS)]
    far = {name: max(abs(one[name][0] - one[name][1]) for one in trials) for name in trials[0]}
    means = {name: [float(np.mean([one[name][side] for one in trials])) for side in (0, 1)] for name in trials[0]}
    found = {"trials": TRIALS, "rectools": version("rectools"), "largest difference": far, "mean of laserrec and of RecTools": means}
    json.dump(found, sys.stdout, indent=1)
    sys.stdout.write("\n")
    if max(far.values()) > 1e-6:  # vectors are float32
        raise SystemExit("laserrec and RecTools measure the same lists differently.")


if __name__ == "__main__":
    main()
