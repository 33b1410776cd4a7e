"""Gather what a report shows, as data; knows nothing of pages and charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from laserrec.comparison.compare import Compared, compare_entries
from laserrec.comparison.entries import read_entries
from laserrec.laser.item_map import ItemMap
from laserrec.recommender import Laser
from laserrec.report.examples import Example, examples
from laserrec.report.fits import Fit, read_fits
from laserrec.report.population import Population, population
from laserrec.runs.estimate import Compared as Predicted
from laserrec.runs.folder import RunFolder
from laserrec.system.devices import CPU

MAPPED = 4000
"""Items in the map at most: a browser still moves so many points of Plotly smoothly."""
USERS = 10
"""Users who are shown with their lists."""


@dataclass(frozen=True)
class Report:
    """The content of a report about one run.

    Attributes:
        about: the content of run.json.
        population: the run's data.
        compared: figures, tests and slices; the run comes first, averaged with those that differ from it in seed alone, then the others.
        fits: every fit.
        items: the map of the catalogue.
        trained: training events of each item in the map.
        examples: a few users.
        costs: seconds and trained parameters of each part of the model.
        predicted: estimates of the plan beside the actual figures; empty for a run without a plan.
    """

    about: Mapping[str, Any]
    population: Population
    compared: Compared
    fits: Sequence[Fit]
    items: ItemMap
    trained: Sequence[int]
    examples: Sequence[Example]
    costs: Mapping[str, Mapping[str, float]]
    predicted: Sequence[Predicted]


def gather(run: RunFolder, data_path: Path | None = None, device: torch.device = CPU, others: Sequence[Path] = ()) -> Report:
    """Read a run, and ask its model for what no file holds.

    Args:
        run: with a trained model, evaluated on test.
        data_path: where the dataset lies now, when it was moved.
        device: where the model computes.
        others: folders as `compare` accepts them, to compare the run with; models evaluated below the run are compared anyway.

    Raises:
        DataError: a run was not evaluated or belongs to another split, or the dataset cannot be found or is another one.
        CheckpointError: training did not get so far, or a file is damaged.
        MissingExtraError: there are models to test against, and SciPy is not installed.
    """
    model = run.model
    data = run.dataset(data_path)
    named = {path.resolve() for path in others}
    below = [path for path in _below(run) if path.resolve() not in named]
    entries = read_entries([run.path, *others, *below], "test")
    compared = compare_entries(entries, data, "test")
    fits = read_fits(run)
    laser = Laser.load(model, device=device)
    cases = data.cases("test").spread(USERS)
    items, trained = laser.item_map(MAPPED), np.bincount(data.training_histories().values, minlength=len(data.item_ids))
    return Report(
        run.about,
        population(data),
        compared,
        fits,
        items,
        [int(trained[data.item_index(item_id)]) for item_id in items.item_ids],
        examples(laser, data, cases, entries[0].evaluations[0]),
        laser.costs,
        run.compared,
    )


def _below(run: RunFolder) -> list[Path]:
    """Return the folders of the models that were evaluated below a run."""
    return sorted(path.parent for path in run.path.glob("*/ranks-test.parquet") if not (path.parent / "run.json").is_file())
