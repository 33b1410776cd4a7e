"""Parts that work without a whole Laser, on another device than the CPU: they compute what they compute there."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from laserrec.baselines.base import Fitted
from laserrec.baselines.seen_penalty import choose_penalty
from laserrec.config import CollaborativeConfig, FitConfig
from laserrec.data.dataset import Cases
from laserrec.data.ragged import Ragged
from laserrec.evaluation.lists import ListMeasures
from laserrec.evaluation.metrics import PROTOCOLS, evaluate
from laserrec.evaluation.ranking import best, exclude, target_ranks
from laserrec.laser.text_first import TextFirst
from laserrec.llm.backbone import Backbone
from laserrec.llm.mean_pooling import mean_states
from laserrec.llm.quantised import QuantisedLinear, Storage
from laserrec.sequential.base import SequentialRecommender
from laserrec.sequential.build import build_recommender, score_recent
from laserrec.system.devices import CPU
from laserrec.text_cache.cache import TextCache
from laserrec.text_cache.disk import DiskStore
from laserrec.text_cache.encoder import Numbers
from laserrec.training.loop import fit
from laserrec.training.neighbours import blend, count_neighbours
from laserrec.training.sequential_task import CollaborativeTask

COUNT = len(tiny.ITEMS)
TRAINING = Ragged.from_rows([row[:-1] for row in tiny.HISTORIES])
VALID = Cases(np.arange(len(tiny.HISTORIES)), TRAINING, np.array([row[-1] for row in tiny.HISTORIES]))
RECOMMENDERS = [("sasrec", "id"), ("bert4rec", "id"), ("gru4rec", "id"), ("sasrec", "text"), ("gru4rec", "both")]
LINES = [list(range(2 + place, 9 + 2 * place)) for place in range(8)]


def recommender(model: str, items: str) -> SequentialRecommender:
    config = CollaborativeConfig.model_validate(
        {"model": model, "items": items, "width": 8, "heads": 2, "blocks": 1, "max_history": 5, "dropout": 0.0, "text_experts": 2}
    )
    torch.manual_seed(2)
    built = build_recommender(config, COUNT, torch.randn(COUNT, 6))
    tiny.liven(built)
    return built


def same(found: Tensor, expected: Tensor) -> None:
    assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("model", "items"), RECOMMENDERS)
def test_a_recommender(elsewhere: torch.device, model: str, items: str) -> None:
    here = recommender(model, items)
    there = copy.deepcopy(here).to(elsewhere)
    cases = tiny.batch([[0, 1, 2, 3], [4, 5], [7], [3, 5, 3]])
    found = []
    for built, device in ((here, CPU), (there, elsewhere)):
        batch = [part.to(device) for part in cases]
        torch.manual_seed(1)  # of what BERT4Rec hides
        loss = built.loss(*batch).mean
        loss.backward()
        gradients = [p.grad for p in built.parameters() if p.grad is not None]
        built.fix_items()
        found.append([loss.detach(), built.states(*batch).detach(), built.scores(*batch).detach(), *gradients])
    assert there.device == elsewhere == found[1][0].device
    for one, other in zip(*found, strict=True):
        same(other, one)


def test_training_and_blending_recommenders(elsewhere: torch.device) -> None:
    results = []
    for device in (CPU, elsewhere):
        task = CollaborativeTask(recommender("sasrec", "both").to(device), TRAINING, VALID, hold_out=0)
        config = FitConfig(epochs=1, batch_size=4)
        outcome = fit(task, config, name="id", seed=0, folder=None, identity={})
        task.model.fix_items()
        ensemble = blend([task.model], count_neighbours(TRAINING, COUNT), None, VALID)
        items, mask = (part.to(device) for part in tiny.batch([[0, 1, 2], [4]]))
        results.append((torch.tensor(outcome.best_score), ensemble.shares, score_recent(ensemble, items, mask)))
        assert ensemble.shares.device == results[-1][2].device == device
    for one, other in zip(*results, strict=True):
        assert_close(other.cpu(), one, rtol=1e-2, atol=1e-2)


def test_ranking(elsewhere: torch.device) -> None:
    generator = torch.Generator().manual_seed(3)
    # Whole numbers, whose products are exact in whatever order and by whichever library they are added up.
    users, matrix = (torch.randint(-9, 10, (rows, 4), generator=generator).float() for rows in (5, 700))
    items, targets = torch.randint(700, (5, 6), generator=generator), torch.randint(700, (5,), generator=generator)
    mask = torch.rand(5, 6, generator=generator) < 0.7
    matrix[300:350] = matrix[:50]  # ties
    found = []
    for device in (CPU, elsewhere):
        u, m, i, t, real = (part.to(device) for part in (users, matrix, items, targets, mask))
        scores = u @ m.T
        left = exclude(scores, i, real, keep=t)
        found.append([left, target_ranks(left, t), *best(left, 7), *best(scores, 700)])
    for one, other in zip(*found, strict=True):
        assert torch.equal(other.cpu(), one)


def by_cosine(device: torch.device) -> Fitted:
    directions = torch.arange(48.0).view(COUNT, 4).sin().to(device)
    return Fitted("cosine", lambda items, mask: directions[items.gather(1, mask.sum(1, keepdim=True) - 1)[:, 0]] @ directions.T)


def by_counts(device: torch.device) -> Fitted:
    return Fitted("counts", count_neighbours(TRAINING, COUNT).to(device).scores)


@pytest.mark.parametrize("build", [by_cosine, by_counts])
def test_baselines_and_their_penalty(elsewhere: torch.device, build: Callable[[torch.device], Fitted]) -> None:
    ranks, ones = [], np.ones(COUNT)
    measures = ListMeasures(ones.astype(np.int64), ones, ones, torch.eye(COUNT, dtype=torch.float64).to_sparse())
    for device in (CPU, elsewhere):
        chosen = choose_penalty(build(device), VALID, device)
        ranks.append(evaluate(chosen.scores, VALID, measures=measures, device=device).ranks)
    assert all(np.array_equal(ranks[0][protocol], ranks[1][protocol]) for protocol in PROTOCOLS)


def moved(device: torch.device) -> Backbone:
    llm = tiny.backbone()
    llm.model.to(device)
    return llm


@pytest.mark.parametrize("numbers", get_args(Numbers))
def test_encoded_texts_are_shared_by_devices(elsewhere: torch.device, tmp_path: Path, numbers: Numbers) -> None:
    """What one device wrote to the disk another one reads, also where its memory holds little of it."""
    virtual, (items, mask) = torch.linspace(-1, 1, 3 * 2 * tiny.WIDTH).view(3, 2, tiny.WIDTH), tiny.batch([[0, 7, 3], [5], [2, 6]])
    found = []
    for device, memory in ((CPU, None), (elsewhere, None), (elsewhere, 4096)):
        cache = TextCache(moved(device), [1, 2], LINES, numbers=numbers, memory=memory)
        cache.open(DiskStore.under(tmp_path), writes=True)
        assert cache.missing == (0 if found else sum(map(len, LINES)))
        cache.build()
        assert cache._shared._arena.rows.device == device
        reader = TextFirst(cache, "suffix")
        found.append([reader.read(items[row].to(device), mask[row].to(device), virtual[row].to(device)) for row in torch.eye(3).bool()])
    for one, *others in zip(*found, strict=True):
        for other in others:
            same(other, one)


def test_texts_encoded_there(elsewhere: torch.device, tmp_path: Path) -> None:
    caches = [TextCache(moved(device), [1, 2], LINES) for device in (CPU, elsewhere)]
    for cache, name in zip(caches, ("here", "there"), strict=True):
        cache.open(DiskStore.under(tmp_path / name), writes=True)
        cache.build()
        assert not cache.missing
    here, there = (cache.gather(*tiny.batch([list(range(8))])).layer(1) for cache in caches)
    same(there, here)


def test_the_language_model(elsewhere: torch.device) -> None:
    here, there = moved(CPU), moved(elsewhere)
    assert there.fingerprint() == here.fingerprint()
    texts = ["a tent", "", "a stove for the tent"]
    found = mean_states(there, texts, max_tokens=9)
    assert found.device == CPU
    same(found, mean_states(here, texts, max_tokens=9))
    assert there.for_reading().device == elsewhere  # laid out for a processor it could not be moved


@pytest.mark.parametrize("storage", ["int8", "fp8"])  # in a backward pass torch makes nf4's table a "meta" tensor without numbers
def test_quantised_weights(elsewhere: torch.device, storage: Storage) -> None:
    torch.manual_seed(0)
    here = QuantisedLinear(nn.Linear(64, 5), storage)
    there, inputs = copy.deepcopy(here).to(elsewhere), torch.randn(3, 64)
    outcomes = []
    for layer, given in ((here, inputs.clone()), (there, inputs.to(elsewhere))):
        given.requires_grad_()
        out = layer(given)
        out.sum().backward()
        assert given.grad is not None
        outcomes.append((out.detach(), given.grad))
    for one, other in zip(*outcomes, strict=True):
        same(other, one)
