"""How near texts are by the words that they share: cosines of TF-IDF vectors, rare words counting more.

A word is two or more letters, digits or underscores in lower case; a text's vector has (1 + ln times) · (1 + ln (1 + N) / (1 + texts))
for each of its words, at length 1. That is scikit-learn's `TfidfVectorizer(sublinear_tf=True)`, but that combining marks belong to
words, computed by Polars, which every installation has.

Dimensions: N catalogue, V words.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import torch
from torch import Tensor

from laserrec.layers.item_weights import SparseWeights

DECAY = 0.75
"""Of an item's weight with each more recent one; chosen on Scientific's validation (docs/log.md)."""
FLOOR = 0.1
"""Sum of cosines that counts as little: of two texts that share a usual word."""
WORD = r"\b\w\w+\b"


def tf_idf(texts: Sequence[str]) -> Tensor:
    """Return the vectors of texts as a sparse float32 matrix [N, V]; words are in alphabetical order, and a text without any is 0."""
    rows = pl.DataFrame({"text": texts}, schema={"text": pl.String}).with_row_index("row")
    words = rows.select("row", pl.col("text").str.to_lowercase().str.extract_all(WORD).alias("word")).explode("word").drop_nulls()
    idf = 1 + ((1 + len(texts)) / (1 + pl.len().over("word"))).log()
    value = (1 + pl.col("times").log()) * idf
    counted = (
        words.group_by("row", "word")
        .agg(times=pl.len())
        .with_columns(value=value, column=pl.col("word").rank("dense") - 1)
        .with_columns(value=pl.col("value") / pl.col("value").pow(2).sum().sqrt().over("row"))
        .sort("row", "column")
    )
    places = torch.stack([counted[name].cast(pl.Int64).to_torch() for name in ("row", "column")])
    size = len(texts), counted["word"].n_unique()
    return torch.sparse_coo_tensor(places, counted["value"].cast(pl.Float32).to_torch(), size, check_invariants=True).coalesce()


def text_kernel(texts: Sequence[str]) -> SparseWeights:
    """Return a scorer of items by the cosines of their texts with those of a history's last ones."""
    vectors = tf_idf(texts)
    return SparseWeights([vectors, vectors.T], FLOOR, DECAY)
