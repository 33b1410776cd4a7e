"""Train RecTools' UniSRecModel until validation stops rising; what `compare.py` has for the models with RecTools' usual interface.

UniSRecModel trains in one call and scores sequences of its own numbering, so validation runs in a callback of its trainer. It reads texts
as vectors: those that `laserrec baseline last-text` leaves in the cache, so that both libraries' UniSRec read the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning import Callback, LightningModule, Trainer
from rectools.fast_transformers import UniSRecModel
from safetensors.torch import load_file

SETTINGS: Mapping[str, Any] = {
    "n_factors": 64,
    "n_blocks": 2,
    "n_heads": 2,
    "session_max_len": 50,
    "batch_size": 256,
    "dropout": 0.5,
    "lr": 1e-3 / 3,
}
"""Sizes and dropout are those of laserrec's UniSRec; its transformer learns at three times `lr`, their rate. The rest is by default."""


class Watched(UniSRecModel):
    """UniSRec whose best epoch on validation is kept."""

    def __init__(self, vectors: torch.Tensor, validate: Callable[[UniSRecModel], float], *, epochs: int, patience: int) -> None:
        """Build the model.

        Args:
            vectors: the items' texts, float [N, H].
            validate: gives the validation score of a model.
            epochs: at most.
            patience: epochs without a better score.
        """
        # Its items are numbered from 1; 0 is padding.
        super().__init__(torch.cat([torch.zeros(1, vectors.shape[1]), vectors]), epochs=epochs, **SETTINGS, device="cpu")
        self.best = KeepBest(self, validate, patience)

    def _make_trainer(self, max_epochs: int, val_dl: Any = None) -> Trainer:  # noqa: ANN401 - as RecTools has it
        trainer = super()._make_trainer(max_epochs, val_dl)
        trainer.callbacks.append(self.best)
        return trainer

    def train(self, history: pl.DataFrame) -> None:
        """Train on events with columns `user` and `item`, in order, and keep the best epoch's weights."""
        users, items = (torch.from_numpy(history[name].cast(pl.Int64).to_numpy().copy()) for name in ("user", "item"))
        self.fit(users, items + 1, torch.arange(len(history)))
        self.net.load_state_dict(self.best.weights)

    def scores(self, users: NDArray[np.int64], read: pl.DataFrame, count: int) -> NDArray[np.float32]:
        """Score all items after the events of some users, ascending: float [users, count]; -inf for an item without training events."""
        length = SETTINGS["session_max_len"]
        sequences = torch.zeros(len(users), length, dtype=torch.int64)
        for row, items in enumerate(read.group_by("user", maintain_order=True).agg("item").sort("user")["item"]):
            known = self.map_item_ids(torch.from_numpy(items.cast(pl.Int64).to_numpy().copy()) + 1)
            last = known[known > 0][-length:]
            sequences[row, length - len(last) :] = last
        values, items = self.predict_topk(sequences, len(self.item_id_mapping))
        scores = np.full((len(users), count + 1), -np.inf, dtype=np.float32)
        np.put_along_axis(scores, items.numpy(), values.numpy(), axis=1)
        return scores[:, 1:]


class KeepBest(Callback):
    """Validates after each epoch, keeps the best weights and ends the fit when its patience does."""

    def __init__(self, model: UniSRecModel, validate: Callable[[UniSRecModel], float], patience: int) -> None:
        """Watch a model's fit; arguments as in `Watched`."""
        self.model, self.validate, self.patience = model, validate, patience
        self.values: list[float] = []
        self.weights: dict[str, torch.Tensor] = {}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate."""
        self.model._net = pl_module.net
        self.values.append(self.validate(self.model))
        if self.values[-1] == max(self.values):
            self.weights = copy.deepcopy(pl_module.net.state_dict())
        trainer.should_stop = len(self.values) - 1 - int(np.argmax(self.values)) >= self.patience


def read_vectors(path: Path, count: int) -> torch.Tensor:
    """Read a catalogue's text vectors, float [count, H], as laserrec keeps them; refuse those of another catalogue."""
    vectors = load_file(path)["vectors"]
    if len(vectors) != count:
        raise SystemExit(f"{path} holds {len(vectors)} vectors; the dataset has {count} items. Name the file of this catalogue.")
    return vectors
