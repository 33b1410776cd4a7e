"""Fit blends of scores that need no trained network on validation cases, and print what each part adds.

python experiments/closed_forms.py DATASET

Counts of items taken together, words in common (over the LLM's tokens) and EASE, as they are in Laser's score. The weights are fitted on
1,000 validation cases; figures are over all validation cases.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from laserrec.config import LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.evaluation.metrics import evaluate
from laserrec.laser.item_texts import ItemTexts
from laserrec.laser.lexical import Lexical
from laserrec.llm.loading import load_backbone
from laserrec.system.devices import CPU
from laserrec.training.blending import Blend
from laserrec.training.ease import ease_neighbours
from laserrec.training.neighbours import count_neighbours

Score = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    """Print a line for each blend."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("dataset", help="a prepared dataset's folder")
    data, config = Dataset.load(parser.parse_args().dataset), LaserConfig()
    cases, count = data.cases("valid"), len(data.item_ids)
    backbone = load_backbone(config, CPU)
    texts = ItemTexts(backbone, config.prompt, data.attributes())
    lexical = Lexical.of(texts.words(texts.items), backbone.vocabulary, CPU)
    counts, ease = count_neighbours(data.training_histories(), count), ease_neighbours(data.training_histories(), count)

    def words(items: Tensor, mask: Tensor) -> Tensor:
        return lexical.scores(lexical.query(items, mask), items, mask)

    blends: dict[str, list[Score]] = {
        "counts": [counts.scores],
        "words": [words],
        "EASE": [ease.scores],
        "counts + words": [counts.scores, words],
        "counts + EASE": [counts.scores, ease.scores],
        "words + EASE": [words, ease.scores],
        "counts + words + EASE": [counts.scores, words, ease.scores],
    }
    for name, parts in blends.items():
        blend = Blend.fit(parts, torch.ones(len(parts)), cases, count, seed=0)
        sys.stdout.write(f"{name}, weights {[round(weight, 2) for weight in blend.weights.tolist()]}\n{evaluate(blend.scores, cases)}\n")


if __name__ == "__main__":
    main()
