"""Results of baselines: each in a folder of its own below a run, from which it is not done again.

<run>/<baseline>/ranks-<split>.parquet    the target's rank of every case; its header tells model, seconds, parameters and peak memory
<run>/<fit>/…                            checkpoint of each fit
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from laserrec.baselines.base import Baseline
from laserrec.data.dataset import Dataset, EvaluatedSplit
from laserrec.errors import DataError
from laserrec.evaluation.lists import ListMeasures
from laserrec.evaluation.metrics import Evaluation, evaluate
from laserrec.runs.folder import Result, RunFolder
from laserrec.system.devices import CPU
from laserrec.system.progress import Observer
from laserrec.system.resources import MemoryPeak
from laserrec.training.context import FitContext
from laserrec.training.pipeline import run_stages

SELDOM = 0.2
"""Seconds between two looks at the memory at most."""


def measure_baseline(
    baseline: Baseline,
    data: Dataset,
    run: RunFolder,
    observers: Sequence[Observer] = (),
    splits: Sequence[EvaluatedSplit] = ("test",),
    device: torch.device = CPU,
) -> dict[EvaluatedSplit, Result]:
    """Return how a baseline does: as kept below the run, or fitted and evaluated now.

    Args:
        baseline: which one.
        data: the run's dataset.
        run: the run's folder and settings.
        observers: who watches.
        splits: which cases; those without any are left out.
        device: where it is computed.

    Raises:
        ConfigError: with the run's settings there is no such baseline.
        DataError: there is no case at all, or kept ranks cannot be read.
    """
    paths = {split: run.path / baseline.name / f"ranks-{split}.parquet" for split in splits if len(data.cases(split))}
    if not paths:
        raise DataError(f"{data.name} has no case to evaluate on {' or '.join(splits)}. Prepare it with another split.")
    missing = [split for split, path in paths.items() if not path.is_file()]
    if missing:
        earlier = [Evaluation.load(path).about.get("peak_memory", 0) for split, path in paths.items() if split not in missing]
        context = FitContext(data, run.config, run.path, observers=observers, device=device)
        with MemoryPeak(device, seldom=SELDOM) as memory:
            measured = _evaluated(baseline, context, missing)
        peak = max([memory.highest, *earlier])
        for split, found in measured.items():
            replace(found, about={**found.about, "peak_memory": peak}).save(paths[split], data.user_ids, data.item_ids)
    kept = {split: Evaluation.load(path) for split, path in paths.items()}
    return {split: Result(each, each.about["seconds"], each.about["parameters"]) for split, each in kept.items()}


def _evaluated(baseline: Baseline, context: FitContext, splits: Sequence[EvaluatedSplit]) -> dict[EvaluatedSplit, Evaluation]:
    """Fit a baseline and rank the targets of some splits' cases."""
    data = context.data
    context.log(f"Baseline: {baseline.label}")
    run_stages(baseline.stages(context.config), context)
    fitted = baseline.fit(context)
    about: dict[str, Any] = {"model": fitted.label, "dataset": data.name, "fingerprint": data.fingerprint, "seconds": fitted.seconds}
    about |= {"parameters": fitted.parameters, "settings": baseline.depends_on(context.config)}

    measures = ListMeasures.of(data)

    def ranked(split: EvaluatedSplit) -> Evaluation:
        return evaluate(fitted.scores, data.cases(split), measures=measures, device=context.device, about={**about, "split": split})

    return {split: ranked(split) for split in splits}
