"""Training the sequential recommender, which Laser then freezes.

The last `hold_out` training events of each user are neither read nor predicted: a model scored on its own training targets looks better
than it is, and Laser, which learns on those events how far to trust it, would trust it too much.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from laserrec.data.dataset import Cases
from laserrec.data.ragged import Ragged
from laserrec.evaluation.metrics import evaluate
from laserrec.sequential.base import SequentialRecommender
from laserrec.sequential.build import score_recent
from laserrec.sequential.item_table import TextTable
from laserrec.training.loop import Step

VALIDATION_BATCH = 512


class CollaborativeTask:
    """Next-item training of a sequential recommender on whole training histories."""

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
        return evaluate(score, self.valid, at_once=VALIDATION_BATCH, device=self.model.device).metrics("full")
