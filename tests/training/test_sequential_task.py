"""Training a sequential recommender: what it learns from, what it never sees, and that it can be resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from laserrec.config import Architecture, CollaborativeConfig, FitConfig, ItemsFrom
from laserrec.data.dataset import Cases
from laserrec.data.ragged import Ragged
from laserrec.sequential.bert4rec import BERT4Rec
from laserrec.sequential.build import build_recommender, score_recent
from laserrec.sequential.fdsa import FDSA
from laserrec.sequential.item_table import TextTable
from laserrec.sequential.sasrec import SASRec
from laserrec.training.loop import fit
from laserrec.training.sequential_task import CollaborativeTask

N = 12
SETTINGS: dict[str, Any] = {"width": 16, "blocks": 1, "heads": 2, "max_history": 5, "dropout": 0.0}


def cycles(lengths: list[int]) -> Ragged:
    """Histories that go around the catalogue, each from another item."""
    return Ragged.from_rows([[(7 * user + step) % N for step in range(length)] for user, length in enumerate(lengths)])


def task(hold_out: int = 0, model: Architecture = "sasrec") -> CollaborativeTask:
    torch.manual_seed(0)
    config = CollaborativeConfig(model=model, **SETTINGS)
    histories = cycles([6] * 24)
    targets = (np.array([row[-1] for row in histories]) + 1) % N
    recommender = build_recommender(config, N, torch.randn(N, 4) if config.reads_texts else None)
    return CollaborativeTask(recommender, histories, Cases(np.arange(24), histories, targets), hold_out=hold_out)


def train(trained: CollaborativeTask, folder: Path, micro: int | None = None, **settings: Any) -> float:  # noqa: ANN401 - whatever FitConfig takes
    config = FitConfig(**{"epochs": 25, "batch_size": 8, "learning_rate": 1e-2, "patience": 25} | settings)
    return fit(trained, config, name="test", seed=0, folder=folder, identity={}, micro_batch=micro).best_score


def test_builder() -> None:
    sasrec = build_recommender(CollaborativeConfig(model="sasrec", seen_penalty=False), 3)
    bert4rec = build_recommender(CollaborativeConfig(model="bert4rec"), 3)
    assert isinstance(sasrec, SASRec)
    assert isinstance(bert4rec, BERT4Rec)
    assert sasrec.penalty is None
    assert bert4rec.penalty is not None


def test_builder_gives_the_texts_to_whatever_reads_them() -> None:
    texts = torch.randn(3, 2)
    for items, kind in (("id", nn.Embedding), ("text", TextTable), ("both", TextTable)):
        built = build_recommender(CollaborativeConfig(model="fdsa", items=items, text_experts=2), 3, texts)
        assert isinstance(built, FDSA)
        assert isinstance(built.items, kind)
        assert isinstance(built.feature_stream.items, TextTable)
        assert built.feature_stream.items.experts == 1
    without = build_recommender(CollaborativeConfig(model="fdsa"), 3)
    assert isinstance(without, FDSA)
    assert isinstance(without.feature_stream.items, nn.Embedding)
    assert [CollaborativeConfig(model=model).reads_texts for model in get_args(Architecture)] == [False, False, False, True]


@pytest.mark.parametrize("model", ["sasrec", "bert4rec", "fdsa"])
@pytest.mark.parametrize("hold_out", [0, 1])
def test_learns_who_follows_whom(tmp_path: Path, model: Architecture, hold_out: int) -> None:
    assert train(task(hold_out, model), tmp_path, epochs=120 if model == "bert4rec" else 25, patience=120) > 0.8


def test_the_loss_of_two_streams_falls(tmp_path: Path) -> None:
    trained, rows = task(model="fdsa"), torch.arange(24)
    before = trained.step(rows, 1).loss.item()
    assert before == pytest.approx(np.log(N), abs=0.6)  # nothing is known yet
    train(trained, tmp_path)
    assert trained.step(rows, 1).loss.item() < before / 3


def test_texts_tell_what_ids_cannot(tmp_path: Path) -> None:
    """Item 32 + k follows items of kind k, and an item's text tells its kind: so what follows is known for items that nobody took."""
    kinds = np.arange(32) % 4
    texts = torch.cat([torch.eye(4)[kinds], torch.zeros(4, 4)])
    histories = Ragged.from_rows([[item, 32 + kinds[item]] for item in range(16)] * 4)
    unseen = Cases(np.arange(16), Ragged.from_rows([[item] for item in range(16, 32)]), 32 + kinds[16:])
    torch.manual_seed(0)
    model = build_recommender(CollaborativeConfig(model="fdsa", **SETTINGS), 36, texts)
    assert train(CollaborativeTask(model, histories, unseen, hold_out=0), tmp_path) > 0.8


@pytest.mark.parametrize(("items", "experts"), [("text", 1), ("text", 2), ("both", 1), ("id", 1)])
def test_new_items_are_no_wrong_answers_to_a_model_that_knows_items_by_texts_alone(items: ItemsFrom, experts: int) -> None:
    histories = Ragged.from_rows([[0, 1, 2, 3], [4, 2, 1]])  # of items 0 … 7
    texts = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))

    def loss(texts: Tensor) -> float:
        torch.manual_seed(0)
        config = CollaborativeConfig(model="sasrec", items=items, text_experts=experts, **SETTINGS)
        built = CollaborativeTask(build_recommender(config, 8, texts), histories, Cases(np.empty(0), cycles([]), np.empty(0)), hold_out=0)
        return built.step(torch.tensor([0, 1]), 1).loss.item()

    changed = torch.cat([texts[:5], 3 - texts[5:]])
    assert (loss(texts) == loss(changed)) is (items != "both")
    assert loss(texts) != loss(torch.cat([-texts[:5], texts[5:]])) or items == "id"


def test_an_item_with_any_training_event_is_a_wrong_answer() -> None:
    """Also one that is cut off, held out, or the only one of its user."""
    histories = Ragged.from_rows([[0, 1, 2, 3, 4, 5, 6, 7, 8], [9]])
    model = build_recommender(CollaborativeConfig(model="sasrec", items="text", **SETTINGS), 12, torch.randn(12, 3))
    built = CollaborativeTask(model, histories, Cases(np.empty(0), cycles([]), np.empty(0)), hold_out=1)
    assert built.left_out is not None
    assert built.left_out.tolist() == [10, 11]


def test_short_histories_are_left_out_and_long_ones_cut() -> None:
    recommender = build_recommender(CollaborativeConfig(model="sasrec", **SETTINGS), N)
    built = CollaborativeTask(recommender, cycles([0, 1, 2, 3, 9]), Cases(np.empty(0), cycles([]), np.empty(0)), hold_out=1)
    # Of nine items the last is held out, the one before is the last target, and five more can be read.
    assert [len(row) for row in built.histories] == [3, 7]
    assert built.step(torch.tensor([0, 1]), 1).loss.isfinite()


def test_held_out_events_change_nothing() -> None:
    first, second = task(hold_out=1), task(hold_out=1)
    second.histories.values[5::6] = 0
    assert torch.equal(first.step(torch.arange(24), 1).loss, second.step(torch.arange(24), 1).loss)


@pytest.mark.parametrize("model", ["sasrec", "gru4rec", "fdsa"])
@pytest.mark.parametrize("micro", [1, 2, 3])
def test_micro_batches_learn_what_the_batch_does_from_histories_of_any_length(tmp_path: Path, model: Architecture, micro: int) -> None:
    """A mean of means would give a position of a short history more than one of a long."""
    found = []
    for size in (None, micro):
        torch.manual_seed(0)
        config = CollaborativeConfig(model=model, **SETTINGS)
        recommender = build_recommender(config, N, torch.ones(N, 2).cumsum(0) if config.reads_texts else None)
        histories = cycles([2, 6, 3, 5])
        trained = CollaborativeTask(recommender, histories, Cases(np.arange(4), histories, np.array([5, 6, 7, 8])), hold_out=0)
        figures = train(trained, tmp_path / str(size), epochs=2, batch_size=4, micro=size, learning_rate=1e-3)
        found.append([figures, *(float(parameter.detach().double().sum()) for parameter in recommender.parameters())])
    assert found[1] == pytest.approx(found[0], rel=1e-4, abs=1e-5)


def test_scoring_reads_the_most_recent_items() -> None:
    model = task().model.eval()
    long = torch.tensor([[9, 9, 1, 2, 3, 4, 5], [6, 7, 8, 0, 0, 0, 0]])
    mask = torch.tensor([[True] * 7, [True] * 3 + [False] * 4])
    scores = score_recent(model, long, mask)
    torch.testing.assert_close(scores[0], model.scores(long[:1, 2:], mask[:1, 2:])[0])
    torch.testing.assert_close(scores[1], model.scores(long[1:, :3], mask[1:, :3])[0])
