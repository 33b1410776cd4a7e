"""Evaluate scores: rank the whole catalogue once for each case, under two protocols, and derive every metric from the ranks.

Protocols: "full" ranks every item; "filter_seen" leaves the history's items out, except the target. Their figures never share a table.
With one target a case, Recall@k and Hit@k are the same number.

Knows nothing of models: it receives a function from histories to scores. Legend: R cases, B histories, S history, N catalogue, K list.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from laserrec.data.dataset import Cases
from laserrec.data.files import UNREADABLE, sealed_bytes, write_sealed
from laserrec.data.options import ReadOptions
from laserrec.data.reading.table import Table
from laserrec.errors import ConfigError, DataError
from laserrec.evaluation.lists import ListMeasures
from laserrec.evaluation.ranking import HISTORIES, best, exclude, rows_at_once, target_ranks

Protocol = Literal["full", "filter_seen"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
OLD_NAMES = {"all": "full", "unseen": "filter_seen", "part": "split"}
"""What earlier versions called protocols and columns in saved ranks."""
KS = (1, 5, 10, 20, 50)
"""Lengths of lists that the field reports."""
Scorer = Callable[[Tensor, Tensor], Tensor]
"""Items int64 [B, S], padded on the right, and a mask bool [B, S], to scores float [B, N]."""


@dataclass(frozen=True)
class Evaluation:
    """The ranks of one model's targets.

    Attributes:
        users: user indices, int64 [R].
        targets: item indices, int64 [R].
        lengths: items in the history, int64 [R].
        ranks: the target's rank from 1, int64 [R], by protocol.
        lists: what `ListMeasures` found of the recommended lists, by protocol; empty where no lists were asked for.
        about: what was evaluated: model, dataset, fingerprint, split; kept with the ranks.
    """

    users: NDArray[np.int64]
    targets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    ranks: Mapping[Protocol, NDArray[np.int64]]
    lists: Mapping[Protocol, Mapping[str, float]] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.users)

    def __str__(self) -> str:
        """Return the main figures of both protocols, a line each."""
        names = ("recall@10", "ndcg@10", "recall@50", "ndcg@50", "mrr")
        lines = []
        for protocol, title in zip(PROTOCOLS, ("seen items ranked   ", "seen items left out "), strict=True):
            values = self.metrics(protocol)
            lines.append(title + "  ".join(f"{name} {values[name]:.4f}" for name in names))
        return "\n".join(lines)

    def metrics(self, protocol: Protocol = "full", ks: Sequence[int] = KS) -> dict[str, float]:
        """Return recall@k, hit@k, ndcg@k, mrr@k for each k, mrr, and what the lists gave; means over cases."""
        return {**metrics(self.ranks[protocol], ks), **self.lists.get(protocol, {})}

    def per_case(self, metric: str, protocol: Protocol = "full") -> NDArray[np.float64]:
        """Return a metric of every case, float64 [R], for intervals, tests and slices."""
        return per_case(self.ranks[protocol], metric)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Evaluation:
        """Return a slice of the cases; what the lists gave belongs to all of them and is left out."""
        ranks = {protocol: values[rows] for protocol, values in self.ranks.items()}
        return Evaluation(self.users[rows], self.targets[rows], self.lengths[rows], ranks, {}, self.about)

    def frame(self, user_ids: Sequence[str], item_ids: Sequence[str]) -> pl.DataFrame:
        """Return one row a case, from which every figure can be derived again; `.to_pandas()` makes it pandas'.

        Args:
            user_ids: the dataset's, in index order.
            item_ids: the dataset's, in index order.

        Returns:
            user_id, target_id, their indices user and target, history_length, and the target's rank_full and rank_filter_seen.
        """
        columns = {
            "user_id": [user_ids[user] for user in self.users],
            "target_id": [item_ids[target] for target in self.targets],
            "user": self.users,
            "target": self.targets,
            "history_length": self.lengths,
            **{f"rank_{protocol}": self.ranks[protocol] for protocol in PROTOCOLS},
        }
        return pl.DataFrame(columns, schema_overrides={"user_id": pl.String, "target_id": pl.String})

    def save(self, path: Path, user_ids: Sequence[str], item_ids: Sequence[str]) -> None:
        """Write `frame` as Parquet, with what the lists gave.

        Args:
            path: the file, replaced when complete.
            user_ids: the dataset's, in index order.
            item_ids: the dataset's, in index order.

        Raises:
            DataError: the disk refuses.
        """
        header = {"about": json.dumps(dict(self.about)), "lists": json.dumps({key: dict(value) for key, value in self.lists.items()})}
        try:
            write_sealed(self.frame(user_ids, item_ids), path, header)
        except OSError as error:
            raise DataError(f"Cannot write {path}: {error}. Make room on the disk, or choose another folder.") from error

    def _checksum(self, *texts: str) -> str:
        """Return the sha256 (hex) of the ranks and of the texts beside them, by which files before the seal were checked."""
        digest = hashlib.sha256("\n".join(texts).encode())
        for values in (self.users, self.targets, self.lengths, *(self.ranks[protocol] for protocol in PROTOCOLS)):
            digest.update(np.ascontiguousarray(values, np.int64).data)
        return digest.hexdigest()

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Read what `save` wrote.

        Raises:
            DataError: the file is absent, damaged or not one of ours.
        """
        try:
            content = sealed_bytes(path)
            header = pl.read_parquet_metadata(path if content is None else io.BytesIO(content))
            table = _decoded_apart(path) if content is None else pl.read_parquet(content)
            is_old = "rank_all" in table.columns
            table = table.rename({f"rank_{old}": f"rank_{now}" for old, now in OLD_NAMES.items()}, strict=False)
            ranks = {protocol: _column(table, f"rank_{protocol}") for protocol in PROTOCOLS}
            lists = {OLD_NAMES.get(protocol, protocol): found for protocol, found in json.loads(header["lists"]).items()}
            about = json.loads(header["about"])
            if not (isinstance(about, dict) and isinstance(about.get("fingerprint", ""), str)):
                raise ValueError("its description is no object")
            about = {OLD_NAMES.get(key, key): value for key, value in about.items()}
            found = cls(_column(table, "user"), _column(table, "target"), _column(table, "history_length"), ranks, lists, about)
            # Files of older versions have no checksum at all.
            if content is None and not is_old and header.get("sha256") != found._checksum(header["about"], header["lists"]):
                raise ValueError("its content does not match its checksum")
            return found
        except FileNotFoundError as error:
            raise DataError(f"There is no file {path}; evaluate the run first.") from error
        except (*UNREADABLE, OSError, KeyError, ValueError, TypeError, RecursionError) as error:
            raise DataError(
                f"{path} does not hold the ranks of an evaluation: {error}. Delete it and run the command that made it again."
            ) from error


def evaluate(
    score: Scorer,
    cases: Cases,
    *,
    measures: ListMeasures | None = None,
    list_length: int = 10,
    at_once: int = HISTORIES,
    device: torch.device | str = "cpu",
    about: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Score every case once and rank its target under both protocols.

    Args:
        score: the model; given the whole histories, the shortest first.
        cases: histories and targets.
        measures: of the dataset; with it, the lists are measured beyond the ranks of targets.
        list_length: K, length of the lists.
        at_once: B, histories scored at a time; fewer for a large catalogue, whose size is read from the first one's scores.
        device: where histories go before scoring.
        about: kept with the ranks.

    Raises:
        DataError: there is no case.
        TrainingError: a score is NaN.
    """
    if not len(cases):
        raise DataError("Received no case to evaluate: no user has an event in this split and one before it. See `laserrec data inspect`.")
    ranks = {protocol: np.empty(len(cases), np.int64) for protocol in PROTOCOLS}
    lists: dict[Protocol, list[Tensor]] = {protocol: [] for protocol in PROTOCOLS}
    order = np.argsort(cases.histories.lengths, kind="stable")
    at, count = 0, 1
    while at < len(order):
        rows = order[at : at + count]
        items, mask = (torch.from_numpy(array).to(device) for array in cases.histories.take(rows).padded())
        targets = torch.from_numpy(cases.targets[rows]).to(device)
        with torch.no_grad():
            scores = score(items, mask)
        for protocol in PROTOCOLS:
            ranked = scores if protocol == "full" else exclude(scores, items, mask, keep=targets)
            ranks[protocol][rows] = target_ranks(ranked, targets).cpu().numpy()
            if measures is not None:
                # A list is what would be recommended, so here a target that was seen is excluded like the rest.
                shown = scores if protocol == "full" else exclude(scores, items, mask)
                lists[protocol].append(best(shown, list_length).items.cpu())
        at = at + count
        count = rows_at_once(scores.shape[1], at_once)
    measured: dict[Protocol, dict[str, float]] = {}
    if measures is not None:
        for protocol, parts in lists.items():
            measured[protocol] = measures.measure(torch.cat(parts).numpy(), cases.targets[order], list_length)
    return Evaluation(cases.users, cases.targets, cases.histories.lengths, ranks, measured, about or {})


def per_case(ranks: NDArray[np.int64], metric: str) -> NDArray[np.float64]:
    """Return one metric of every rank.

    Args:
        ranks: from 1, int64 [R].
        metric: "mrr", or recall@k, hit@k, ndcg@k, mrr@k with k ≥ 1.

    Raises:
        ConfigError: the metric is unknown.
    """
    name, _, text = metric.partition("@")
    if metric == "mrr":
        return 1.0 / ranks
    if name not in {"recall", "hit", "ndcg", "mrr"} or not text.isdecimal() or int(text) < 1:
        raise ConfigError(
            f"Unknown metric {metric!r}; allowed are mrr, and recall@k, hit@k, ndcg@k, mrr@k with a whole k from 1, such as ndcg@10."
        )
    inside = (ranks <= int(text)).astype(np.float64)
    weights = {"ndcg": 1.0 / np.log2(ranks + 1.0), "mrr": 1.0 / ranks}
    return inside * weights[name] if name in weights else inside


def metrics(ranks: NDArray[np.int64], ks: Sequence[int] = KS) -> dict[str, float]:
    """Return recall@k, hit@k, ndcg@k and mrr@k for each k, and mrr: means over ranks int64 [R]; NaN where there are none."""
    names = [f"{name}@{k}" for name in ("recall", "hit", "ndcg", "mrr") for k in ks]
    return {name: float(per_case(ranks, name).mean()) if len(ranks) else math.nan for name in (*names, "mrr")}


def _column(table: pl.DataFrame, name: str) -> NDArray[np.int64]:
    return table[name].cast(pl.Int64).to_numpy().astype(np.int64)


def _decoded_apart(path: Path) -> pl.DataFrame:
    """Decode a file that nothing proves undamaged in another process, which may end."""
    table = Table.open(path, ReadOptions())
    return table.read(table.columns).frame
