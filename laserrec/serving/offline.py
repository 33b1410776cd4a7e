"""What `laserrec evaluate` measured of a model that is served from its run's folder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal, get_args

from laserrec.errors import DataError
from laserrec.evaluation.metrics import PROTOCOLS, Evaluation
from laserrec.evaluation.statistics import interval
from laserrec.serving.messages import OfflineFigure

Metric = Literal["ndcg@10", "recall@10"]
Measured = Literal["valid", "test"]


def offline_figures(source: str, fingerprint: object) -> list[OfflineFigure]:
    """Return a model's figures on each split and under each protocol.

    Args:
        source: where the model was loaded from; only a run's folder holds evaluations.
        fingerprint: that of the dataset it was trained on; evaluations on another one are left out.
    """
    found = []
    split: Measured
    for split in get_args(Measured):
        path = Path(source) / f"ranks-{split}.parquet"
        if not path.is_file():
            continue
        try:
            evaluation = Evaluation.load(path)
        except DataError as error:  # a model answers as well without its figures
            logging.getLogger("laserrec.serving").warning("%s", error)
            continue
        if evaluation.about.get("fingerprint") != fingerprint:
            continue
        for protocol in PROTOCOLS:
            metric: Metric
            for metric in get_args(Metric):
                values = evaluation.per_case(metric, protocol)
                low, high = interval(values)
                about = {"split": split, "protocol": protocol, "metric": metric, "cases": len(values)}
                found.append(OfflineFigure(**about, mean=float(values.mean()), low=low, high=high))
    return found
