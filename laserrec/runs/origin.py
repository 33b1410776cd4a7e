"""The run that a model came from: its ranks, to test one model against another, and how popular items were in training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from laserrec.errors import DataError, LaserrecError
from laserrec.evaluation.metrics import PROTOCOLS, Evaluation, Protocol
from laserrec.evaluation.statistics import Comparison, compare
from laserrec.runs.folder import RunFolder

METRICS = ("ndcg@10", "recall@10", "mrr")


def paired_test(new: str, running: str) -> Mapping[tuple[Protocol, str], Comparison]:
    """Compare two models on the test cases of their runs, by protocol and metric: the new one minus the running one.

    Args:
        new: folder of a run, or of the model in one.
        running: likewise.

    Raises:
        DataError: a model has no ranks beside it, or the two were not evaluated on the same cases; the message says which.
    """
    first, second = _ranks(new), _ranks(running)
    same = first.about.get("fingerprint") == second.about.get("fingerprint") and len(first) == len(second)
    if not same or not (np.array_equal(first.users, second.users) and np.array_equal(first.targets, second.targets)):
        data = " and ".join(f"{one.about.get('dataset')!r} ({str(one.about.get('fingerprint'))[:12]}…)" for one in (first, second))
        raise DataError(f"The models were evaluated on different cases, of {data}. Train both on one dataset to compare them.")
    return {
        (protocol, metric): compare(first.per_case(metric, protocol), second.per_case(metric, protocol))
        for protocol in PROTOCOLS
        for metric in METRICS
    }


def training_popularity(source: str) -> Mapping[str, int]:
    """Return each item's number of training events.

    Args:
        source: folder of a run, or of the model in one.

    Raises:
        LaserrecError: there is no such run, it is damaged, or its dataset does not lie where it says.
    """
    data = _run(source).dataset()
    counts = np.bincount(data.training_histories().values, minlength=len(data.item_ids))
    return dict(zip(data.item_ids, counts.tolist(), strict=True))


def _ranks(source: str) -> Evaluation:
    try:
        return Evaluation.load(_run(source).ranks("test"))
    except LaserrecError as error:  # a run.json that is damaged, or of a version with other settings, too
        raise DataError(str(error)) from error


def _run(source: str) -> RunFolder:
    path = Path(source)
    folder = path if (path / "run.json").is_file() else path.resolve().parent
    if not (folder / "run.json").is_file():
        raise DataError(f"{source} lies in no run's folder, so no ranks of test cases are kept beside it.")
    return RunFolder.open(folder)
