"""Training the id-based recommender, which Laser then freezes.

The last `hold_out` training events of each user are neither read nor predicted: a model scored on its own training targets looks better
than it is, and Laser, which learns on those events how far to trust it, would trust it too much.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from laserrec.config import CollaborativeConfig
from laserrec.data.dataset import Cases
from laserrec.data.ragged import Ragged
from laserrec.evaluation import evaluate
from laserrec.nn.bert4rec import BERT4Rec
from laserrec.nn.ensemble import Ensemble
from laserrec.nn.fdsa import FDSA
from laserrec.nn.gru4rec import GRU4Rec
from laserrec.nn.histories import recent
from laserrec.nn.item_table import TextTable
from laserrec.nn.sasrec import SASRec
from laserrec.nn.sequential import SequentialRecommender
from laserrec.training.loop import Step

VALIDATION_BATCH = 512


def build_recommender(config: CollaborativeConfig, catalogue_size: int, texts: Tensor | None = None) -> SequentialRecommender:
    """Return the recommender that the settings name, with fresh weights from torch's global generator.

    Args:
        config: its architecture.
        catalogue_size: N.
        texts: whitened vectors of the items' texts [N, F], where `config.reads_texts`; without, the recommender is built as it is once
            its item vectors and features are fixed.
    """
    sizes = config.model_dump(include={"width", "blocks", "heads", "max_history", "dropout", "seen_penalty"})
    model: SequentialRecommender
    if config.model == "sasrec":
        model = SASRec(catalogue_size=catalogue_size, **sizes)
    elif config.model == "bert4rec":
        model = BERT4Rec(catalogue_size=catalogue_size, **sizes)
    elif config.model == "fdsa":
        model = FDSA(catalogue_size=catalogue_size, features=texts, **sizes)
    else:
        del sizes["heads"]
        model = GRU4Rec(catalogue_size=catalogue_size, **sizes)
    if texts is not None and config.items != "id":
        model.items = TextTable(texts, config.width, ids=config.items == "both", experts=config.text_experts)
    return model


class CollaborativeTask:
    """Next-item training of an id-based recommender on whole training histories."""

    def __init__(self, model: SequentialRecommender, histories: Ragged, valid: Cases, *, hold_out: int) -> None:
        """Put a task together.

        Args:
            model: trained in place.
            histories: training histories; those too short to learn from are left out, those too long are cut to their end.
            valid: the cases that choose the best epoch.
            hold_out: events at each history's end that the model is not trained on.
        """
        self.model, self.valid, self.hold_out = model, valid, hold_out
        usable = np.flatnonzero(histories.lengths > 1 + hold_out)
        # A history of one more item than fits is read but for its last item, which is only predicted.
        self.histories = histories.take(usable).tails(model.max_history + 1 + hold_out)
        # As wrong answers alone, new items would teach a model of texts that such texts are wrong.
        shared = isinstance(model.items, TextTable) and model.items.shared
        self.left_out = torch.from_numpy(histories.absent(model.catalogue_size)).to(model.device) if shared else None

    @property
    def module(self) -> nn.Module:
        """The recommender."""
        return self.model

    def seen(self) -> Tensor:
        """Return which items the model is trained on, bool [N]; the others' own embeddings only ever serve as wrong answers."""
        kept = Ragged.from_rows([history[: len(history) - self.hold_out] for history in self.histories])
        seen = torch.zeros(self.model.catalogue_size, dtype=torch.bool)
        seen[torch.from_numpy(kept.values)] = True
        return seen

    def __len__(self) -> int:
        return len(self.histories)

    def start_epoch(self, epoch: int) -> None:
        """Nothing is prepared."""

    def step(self, rows: Tensor, epoch: int) -> Step:
        """Cross-entropy over the whole catalogue; for a model that knows items by their texts alone, over those with a training event."""
        items, mask = (torch.from_numpy(array).to(self.model.device) for array in self.histories.take(rows.numpy()).padded())
        loss, positions = self.model.loss(items, mask, self.hold_out, self.left_out)
        return Step(loss, {}, positions)

    def validate(self) -> dict[str, float]:
        """Rank the catalogue for the validation cases, seen items not excluded."""
        self.model.eval()
        score = partial(score_recent, self.model)
        return evaluate(score, self.valid, at_once=VALIDATION_BATCH, device=self.model.device).metrics("all")


def score_recent(model: SequentialRecommender | Ensemble, items: Tensor, mask: Tensor) -> Tensor:
    """Score the catalogue [B, N] after histories of any length, of which the model reads the most recent items."""
    return model.scores(*recent(items, mask, model.max_history))
