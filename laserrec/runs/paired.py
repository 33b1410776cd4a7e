"""Test one run against another, paired, on the ranks that both kept of the same cases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from laserrec.errors import CheckpointError, DataError
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


def _ranks(source: str) -> Evaluation:
    path = Path(source)
    folder = path if (path / "run.json").is_file() else path.resolve().parent
    if not (folder / "run.json").is_file():
        raise DataError(f"{source} lies in no run's folder, so no ranks of test cases are kept beside it.")
    try:
        return Evaluation.load(RunFolder.open(folder).ranks("test"))
    except CheckpointError as error:
        raise DataError(str(error)) from error
