"""The sequential recommender on the split that the published figures are on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from laserrec.config import LaserConfig
from laserrec.data.prepare import prepare
from laserrec.evaluation.metrics import evaluate
from laserrec.sequential.build import build_recommender, score_recent
from laserrec.training.loop import fit
from laserrec.training.sequential_task import CollaborativeTask


@pytest.mark.slow
def test_defaults_reach_the_published_sasrec(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    """Published on this split, seen items not excluded: R@10 .1080, N@10 .0553. Takes about four minutes on two cores."""
    dataset, _ = prepare(real_data("scientific"))
    config = LaserConfig.build("default", {"collaborative": {"items": "id", "hold_out": 0}}, source="test")
    torch.manual_seed(config.seed)
    model = build_recommender(config.collaborative, len(dataset.item_ids))
    task = CollaborativeTask(model, dataset.training_histories(), dataset.cases("valid"), hold_out=0)
    fit(task, config.fit_collaborative, name="collaborative", seed=config.seed, folder=tmp_path, identity={})
    reached = evaluate(partial(score_recent, model), dataset.cases("test")).metrics("full")
    assert reached["recall@10"] >= 0.1080
    assert reached["ndcg@10"] >= 0.0553
