"""Compare models on the same cases: one table a protocol, with tests and slices; knows nothing of how it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from laserrec.comparison.entries import Entry, dataset_path, read_entries
from laserrec.comparison.published import Published, published
from laserrec.comparison.slices import Slice, slices
from laserrec.comparison.statistics import PairedTest, paired_tests
from laserrec.data.dataset import Dataset, EvaluatedSplit
from laserrec.errors import DataError
from laserrec.evaluation.metrics import PROTOCOLS, Protocol
from laserrec.evaluation.statistics import interval

METRICS = ("recall@10", "ndcg@10", "recall@50", "ndcg@50", "mrr")
TESTED = ("recall@10", "ndcg@10", "recall@50")
SLICED = "ndcg@10"


@dataclass(frozen=True)
class Figure:
    """One model's metric.

    Attributes:
        mean: over cases, and over seeds where there are several.
        low: lower end of its 95 % bootstrap interval over cases.
        high: upper end.
        deviation: standard deviation from seed to seed; None for one seed.
    """

    mean: float
    low: float
    high: float
    deviation: float | None


@dataclass(frozen=True)
class Row:
    """One model of a table.

    Attributes:
        name: the model.
        paths: the runs it was read from.
        seeds: how many.
        figures: by metric.
        lists: what `ListMeasures` found of its lists, mean over seeds, where all of them were measured.
        seconds: of training.
        parameters: trained ones.
        peak_memory: bytes; None where it is not known.
    """

    name: str
    paths: Sequence[str]
    seeds: int
    figures: Mapping[str, Figure]
    lists: Mapping[str, float]
    seconds: float
    parameters: int
    peak_memory: int | None


@dataclass(frozen=True)
class Table:
    """Everything under one protocol.

    Attributes:
        protocol: whether seen items are ranked.
        rows: the models, in the order they were named.
        tests: the first of them against each of the others.
        slices: N@10 by kind of case.
        published: rows that others published on this split under this protocol; not reproduced here.
    """

    protocol: Protocol
    rows: Sequence[Row]
    tests: Sequence[PairedTest]
    slices: Sequence[Slice]
    published: Sequence[Published]


@dataclass(frozen=True)
class Compared:
    """A comparison.

    Attributes:
        dataset: its name.
        fingerprint: of the split.
        split: which cases.
        cases: how many.
        tables: one a protocol; their figures are not comparable with each other.
    """

    dataset: str
    fingerprint: str
    split: EvaluatedSplit
    cases: int
    tables: Sequence[Table]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON's types."""
        return asdict(self)

    def frame(self) -> pl.DataFrame:
        """Return the figures, a row for each protocol, model and metric: mean, low, high, deviation; of lists there is a mean alone."""
        rows = [
            {"protocol": table.protocol, "model": row.name, "seeds": row.seeds, "metric": metric, **found}
            for table in self.tables
            for row in table.rows
            for metric, found in (
                *((metric, asdict(figure)) for metric, figure in row.figures.items()),
                *((metric, {"mean": value}) for metric, value in row.lists.items()),
            )
        ]
        kinds = dict.fromkeys(("mean", "low", "high", "deviation"), pl.Float64)
        return pl.DataFrame(rows, {"protocol": pl.String, "model": pl.String, "seeds": pl.Int64, "metric": pl.String, **kinds})


@dataclass(frozen=True)
class Summary:
    """One model over its seeds.

    Attributes:
        dataset: its name.
        split: which cases.
        cases: how many.
        rows: the model's figures, by protocol.
    """

    dataset: str
    split: EvaluatedSplit
    cases: int
    rows: Mapping[Protocol, Row]


def summarise_runs(paths: Sequence[Path], split: EvaluatedSplit) -> Summary:
    """Average runs of one model that differ in seed.

    Args:
        paths: folders of the runs.
        split: which cases.

    Raises:
        DataError: the runs differ in more than the seed, or were not evaluated on the same cases.
    """
    entries = read_entries(paths, split)
    if len(entries) > 1:
        raise DataError(f"{', '.join(map(str, paths))} differ in more than the seed; set them side by side with laserrec compare.")
    evaluation = entries[0].evaluations[0]
    rows = {protocol: _row(entries[0], protocol) for protocol in PROTOCOLS}
    return Summary(str(evaluation.about["dataset"]), split, len(evaluation), rows)


def compare_runs(paths: Sequence[Path], split: EvaluatedSplit = "test", data: Path | None = None) -> Compared:
    """Compare models on the same cases; the first is tested against the others.

    Args:
        paths: folders of runs, of models below one, of baselines, or of seeds of either; what differs in seed alone is one model.
        split: which cases.
        data: where the dataset lies now, when it was moved.

    Raises:
        DataError: there are no two models, or they were not evaluated on the same cases of the same split.
        CheckpointError: a folder is not a run.
        MissingExtraError: SciPy is not installed.
    """
    entries = read_entries(paths, split)
    if len(entries) < 2:
        raise DataError(f"Received runs of {entries[0].name} alone; a comparison needs two. Name another run.")
    about = entries[0].evaluations[0].about
    place = data or dataset_path(entries)
    dataset = Dataset.load(place)
    if dataset.fingerprint != about["fingerprint"]:
        raise DataError(
            f"{place} has fingerprint {dataset.fingerprint[:12]}…; the runs were evaluated on {about['fingerprint'][:12]}…. "
            "Give their dataset.",
            parameters=["data"],
        )
    return compare_entries(entries, dataset, split)


def compare_entries(entries: Sequence[Entry], data: Dataset, split: EvaluatedSplit) -> Compared:
    """Compare entries; a single model gets figures and slices, and no test.

    Args:
        entries: the models; the first is tested against the others.
        data: the dataset that they were evaluated on.
        split: which cases.

    Raises:
        MissingExtraError: there is something to test, and SciPy is not installed.
    """
    tables = [_table(entries, data, split, protocol) for protocol in PROTOCOLS]
    return Compared(data.name, data.fingerprint, split, len(entries[0].evaluations[0]), tables)


def _table(entries: Sequence[Entry], data: Dataset, split: EvaluatedSplit, protocol: Protocol) -> Table:
    first, *others = entries
    return Table(
        protocol,
        [_row(entry, protocol) for entry in entries],
        paired_tests(first, others, TESTED, protocol),
        slices(entries, data, SLICED, protocol),
        published(data.fingerprint) if protocol == "full" and split == "test" else [],
    )


def _row(entry: Entry, protocol: Protocol) -> Row:
    figures = {}
    for metric in METRICS:
        values = entry.per_case(metric, protocol)
        figures[metric] = Figure(float(values.mean()), *interval(values), entry.deviation(metric, protocol))
    measured = [evaluation.lists.get(protocol, {}) for evaluation in entry.evaluations]
    common = [name for name in measured[0] if all(name in lists for lists in measured)]  # ranks of earlier versions lack some
    lists = {name: float(np.mean([lists[name] for lists in measured])) for name in common}
    paths = [str(path) for path in entry.paths]
    return Row(entry.name, paths, len(paths), figures, lists, entry.seconds, entry.parameters, entry.peak_memory)
