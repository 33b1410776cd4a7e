"""A run's model evaluated by the workers of a Ray cluster, each on parts of the cases (`distributed.parts`).

A score's last digit depends on the batch, so parts end where `evaluate` ends its batches. `evaluate` scores its first case alone to learn
the catalogue's size; each part therefore starts with one extra case, which is dropped.
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from laserrec.data.dataset import Dataset, EvaluatedSplit
from laserrec.data.files import write_parquet
from laserrec.distributed.parts import make_parts
from laserrec.distributed.users import contents
from laserrec.errors import DataError
from laserrec.evaluation.lists import ListMeasures
from laserrec.evaluation.metrics import PROTOCOLS, Evaluation, evaluate
from laserrec.evaluation.ranking import best, exclude, rows_at_once
from laserrec.laser.validation import check_evaluated
from laserrec.recommender import Laser
from laserrec.runs.folder import RunFolder
from laserrec.system.atomic import aside
from laserrec.system.progress import Progress

CASES_AT_ONCE = 1024
"""Cases of a part, about: a number of whole batches."""
LIST_LENGTH = 10
"""As `Laser.evaluate` measures lists."""


def evaluate_on_cluster(
    run: RunFolder, data: Path, split: EvaluatedSplit, address: str, workers: int, device: str | None, progress: Progress
) -> None:
    """Evaluate a run's model and keep the ranks, as `runs.folder.evaluate_run` does; arguments and errors as in `make_parts`.

    Args:
        run: a finished one, on storage that all machines share.
        data: folder of its dataset, likewise.
        split: which cases.
        address: the cluster's.
        workers: how many hold the model.
        device: what they compute on.
        progress: called with the number of cases that are done.

    Raises:
        DataError: the dataset is not the run's, or the split has no case.
    """
    dataset = run.dataset(data)
    cases, model = dataset.cases(split), run.model.resolve()
    if not len(cases):
        raise DataError(
            f"{dataset.name!r} has no case in the split {split!r}. Choose the other one, or prepare the data with another split."
        )
    out, build = run.path / f"ranks-{split}.parts", partial(_Evaluating, model, data.resolve(), split)
    batch, rest = rows_at_once(len(dataset.item_ids)), max(len(cases) - 1, 1)
    size = batch * max(1, CASES_AT_ONCE // batch)
    # What an earlier model left there is of no use to anybody.
    parts = make_parts(out, contents(model, data), build, rest, size, address, workers, device, progress, afresh=True)
    found = pl.concat([pl.read_parquet(part) for part in parts]).sort("case")
    ranks = {protocol: found[f"rank_{protocol}"].to_numpy() for protocol in PROTOCOLS}
    measures = ListMeasures.of(dataset)
    lists = {protocol: measures.measure(found[f"list_{protocol}"].to_numpy(), cases.targets, LIST_LENGTH) for protocol in PROTOCOLS}
    about = {"model": "Laser", "dataset": dataset.name, "fingerprint": dataset.fingerprint, "split": split}
    evaluation = Evaluation(cases.users, cases.targets, cases.histories.lengths, ranks, lists, about)
    evaluation.save(run.ranks(split), dataset.user_ids, dataset.item_ids)
    shutil.rmtree(out)


class _Evaluating:
    """The model and the cases, loaded once."""

    def __init__(self, model: Path, data: Path, split: EvaluatedSplit, device: str) -> None:
        dataset, self.laser = Dataset.load(data), Laser.load(model, device=device)
        self.system, self.cases = self.laser.system, dataset.cases(split)
        check_evaluated(dataset, self.laser.provenance, self.system.catalogue)
        # As one process takes them, so that histories of like length are read together here, too.
        self.order = np.argsort(self.cases.histories.lengths, kind="stable")

    def write(self, path: Path, rows: range) -> None:
        """Rank the targets of some cases behind the one before them, and list what would be recommended."""
        chosen = self.order[rows.start : rows.stop + 1]
        lists: dict[str, list[Tensor]] = {protocol: [] for protocol in PROTOCOLS}

        def score(items: Tensor, mask: Tensor) -> Tensor:
            scores = self.system.scores(items, mask)
            for protocol in PROTOCOLS:
                shown = scores if protocol == "full" else exclude(scores, items, mask)
                lists[protocol].append(best(shown, LIST_LENGTH).items.cpu())
            return scores

        found = evaluate(score, self.cases.take(chosen), device=self.system.device)
        # The lists come in the order of scoring, which is that of the lengths: the same as of the rows.
        columns = {f"list_{protocol}": torch.cat(parts).numpy() for protocol, parts in lists.items()}
        table = pl.DataFrame({"case": chosen, **{f"rank_{protocol}": found.ranks[protocol] for protocol in PROTOCOLS}, **columns})
        with aside(path) as unfinished:
            write_parquet(table.slice(1 if rows.start else 0), unfinished)
