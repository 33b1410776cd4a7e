"""Train RecTools' SASRec, BERT4Rec and UniSRec on a prepared dataset, beside laserrec's on the very same split; prints JSON.

Runs in an environment of its own (requirements.txt), which holds no laserrec: RecTools trains and scores, and the ranks are counted here,
from nothing but the dataset's tables. Protocols: "full" ranks every item; "filter_seen" leaves the history's items out, except the
target. Ties count against the target. An item that no training history holds is unknown to RecTools and comes last.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import platform
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning import seed_everything
from rectools.dataset import Dataset
from rectools.models import BERT4RecModel, SASRecModel
from rectools.models.nn.transformers.bert4rec import BERT4RecDataPreparator
from rectools.models.nn.transformers.data_preparator import TransformerDataPreparatorBase
from rectools.models.nn.transformers.lightning import TransformerLightningModule
from rectools.models.nn.transformers.sasrec import SASRecDataPreparator
from torch import Tensor
from torch.nn.functional import cross_entropy
from unisrec import SETTINGS, Watched, read_vectors

Model = SASRecModel | BERT4RecModel
PROTOCOLS = ("full", "filter_seen")
UNISREC = "unisrec-text"
USERS_AT_A_TIME = 1024


class Trimmed(TransformerDataPreparatorBase):
    """Batches without the columns that are padding in every row: nothing changes where padding is masked, for places count from the end."""

    def _collate_fn_train(self, batch: list[Any]) -> dict[str, Tensor]:
        return _trimmed(super()._collate_fn_train(batch))

    def _collate_fn_recommend(self, batch: list[Any]) -> dict[str, Tensor]:
        return _trimmed(super()._collate_fn_recommend(batch))


def _trimmed(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    longest = int((batch["x"] != 0).sum(1).max())
    return {name: values[:, -longest:] for name, values in batch.items()}


class TrimmedSASRec(Trimmed, SASRecDataPreparator):
    """SASRec's batches."""


class TrimmedBERT4Rec(Trimmed, BERT4RecDataPreparator):
    """BERT4Rec's batches."""


class RealPositions(TransformerLightningModule):
    """RecTools' loss, computed only where there is something to predict: nine in ten places of a batch are padding."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the mean cross-entropy over the whole catalogue of the places that hold a target."""
        items = self.torch_model.item_model.get_all_embeddings()
        targets = batch["y"]
        predicted = targets != 0
        return cross_entropy(self.torch_model.encode_sessions(batch, items)[predicted] @ items.T, targets[predicted])


SIZES: Mapping[str, Any] = {"n_factors": 64, "n_blocks": 2, "n_heads": 2, "session_max_len": 50, "batch_size": 256, "loss": "softmax"}
FITS: Mapping[str, tuple[type[Model], type[TransformerDataPreparatorBase], Mapping[str, Any]]] = {
    "sasrec": (SASRecModel, TrimmedSASRec, {"dropout_rate": 0.5, "lr": 1e-3, "use_key_padding_mask": True}),
    "bert4rec": (BERT4RecModel, TrimmedBERT4Rec, {"dropout_rate": 0.3, "lr": 3e-3, "mask_prob": 0.3}),
}
"""Sizes, dropout, learning rate and the share of hidden items are those of laserrec's baselines, which read no padding; the rest is
RecTools' default, but for `use_key_padding_mask`: by default its SASRec reads padding."""
NAMES = (*FITS, UNISREC)


@dataclass(frozen=True)
class Prepared:
    """A prepared dataset.

    Attributes:
        events: `user_id`, `item_id`, `split`, each user's in order, with the rows of users and items among all as `user` and `item`.
        items: N, size of the catalogue.
        about: the manifest's content.
    """

    events: pl.DataFrame
    items: int
    about: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path) -> Prepared:
        """Read a folder that `laserrec data prepare` wrote."""
        items = pl.read_parquet(folder / "items.parquet", columns=["item_id"]).with_row_index("item")
        events = pl.read_parquet(folder / "interactions.parquet").join(items, on="item_id", maintain_order="left")
        return cls(
            events.with_columns(user=pl.col("user_id").rank("dense") - 1), len(items), json.loads((folder / "manifest.json").read_text())
        )

    def history(self, split: str) -> pl.DataFrame:
        """Return the events before a split."""
        return self.events.filter(pl.col("split") < split)

    def cases(self, split: str) -> pl.DataFrame:
        """Return each user's first event of a split, for users who have one and a history; the shortest histories come first."""
        first = self.events.filter(pl.col("split") == split).unique("user", keep="first", maintain_order=True)
        lengths = self.history(split).group_by("user").agg(length=pl.len())
        return first.join(lengths, on="user").sort("length", "user")


def dataset(events: pl.DataFrame) -> Dataset:
    """Hand events to RecTools; their order replaces their times, which may tie."""
    order = pd.to_datetime(np.arange(len(events)), unit="s")
    columns = {"user_id": events["user"].to_numpy(), "item_id": events["item"].to_numpy(), "weight": 1.0, "datetime": order}
    return Dataset.construct(pd.DataFrame(columns))


def ranked(model: Model | Watched, data: Prepared, split: str, k: int) -> pl.DataFrame:
    """Return a split's cases with the target's `rank_full` and `rank_filter_seen`.

    Args:
        model: a fitted model.
        data: the dataset.
        split: whose targets are ranked, after all events before it.
        k: items that RecTools is asked for; a target that is not among them is ranked last.
    """
    history = data.history(split)
    chunks = []
    for unsorted in data.cases(split).iter_slices(USERS_AT_A_TIME):
        cases = unsorted.sort("user")
        users = cases["user"].to_numpy()
        targets = cases["item"].to_numpy()
        rows = np.arange(len(cases))
        read = history.join(cases, on="user", how="semi", maintain_order="left")
        if isinstance(model, Watched):
            scores = model.scores(users, read, data.items)
        else:
            listed = model.recommend(users, dataset(read), k=k, filter_viewed=False, add_rank_col=False, on_unsupported_targets="ignore")
            scores = np.full((len(cases), data.items), -np.inf, dtype=np.float32)
            scores[np.searchsorted(users, listed["user_id"]), listed["item_id"]] = listed["score"]
        seen = np.zeros(scores.shape, dtype=bool)
        seen[np.searchsorted(users, read["user"].to_numpy()), read["item"].to_numpy()] = True
        seen[rows, targets] = False
        ahead = scores >= scores[rows, targets][:, None]  # the target itself among them, so that the best rank is 1
        chunks.append(cases.with_columns(rank_full=ahead.sum(1), rank_filter_seen=(ahead & ~seen).sum(1)))
    return pl.concat(chunks).select("user_id", pl.col("item_id").alias("target_id"), "rank_full", "rank_filter_seen")


def per_case(ranks: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Return every metric of every rank."""
    found = {}
    for k in (10, 50):
        found[f"recall@{k}"] = (ranks <= k).astype(float)
        found[f"ndcg@{k}"] = (ranks <= k) / np.log2(ranks + 1.0)
    return found | {"mrr": 1.0 / ranks}


def figures(ranks: NDArray[np.int64]) -> dict[str, float]:
    """Return every metric's mean."""
    return {name: float(values.mean()) for name, values in per_case(ranks).items()}


def fit(name: str, data: Prepared, *, epochs: int, patience: int, seed: int) -> tuple[Model, dict[str, Any]]:
    """Train on the training events until validation stops rising and return the best epoch's model, with what is reported of it."""
    seed_everything(seed)
    kind, batches, settings = FITS[name]
    model = kind(**SIZES, **settings, data_preparator_type=batches, lightning_module_type=RealPositions)
    train = dataset(data.history("valid"))
    scores = []
    best = {}
    start = time.monotonic()
    while len(scores) < epochs and len(scores) - int(np.argmax([0.0, *scores])) < patience:
        model.fit_partial(train, min_epochs=1, max_epochs=1)
        scores.append(figures(ranked(model, data, "valid", k=10)["rank_full"].to_numpy())["ndcg@10"])
        if scores[-1] == max(scores):
            best = {key: value.clone() for key, value in model.torch_model.state_dict().items()}
        sys.stderr.write(f"{name}: epoch {len(scores)}: validation NDCG@10 {scores[-1]:.4f}, {time.monotonic() - start:.0f} s\n")
    model.torch_model.load_state_dict(best)
    about = {
        "model": name,
        "fingerprint": data.about["fingerprint"],
        "seconds": time.monotonic() - start,
        "parameters": sum(parameter.numel() for parameter in model.torch_model.parameters()),
        "settings": {**SIZES, **settings, "epochs": epochs, "patience": patience, "seed": seed},
        "best_epoch": int(np.argmax(scores)) + 1,
        "validation_ndcg@10": max(scores),
    }
    return model, about


def fit_unisrec(data: Prepared, texts: Path, *, epochs: int, patience: int, seed: int) -> tuple[Watched, dict[str, Any]]:
    """Train UniSRec like the others, on vectors of the items' texts."""
    seed_everything(seed)

    def validate(model: Watched) -> float:
        value = figures(ranked(model, data, "valid", k=10)["rank_full"].to_numpy())["ndcg@10"]
        sys.stderr.write(f"unisrec-text: validation NDCG@10 {value:.4f}, {time.monotonic() - start:.0f} s\n")
        return value

    start = time.monotonic()
    model = Watched(read_vectors(texts, data.items), validate, epochs=epochs, patience=patience)
    model.train(data.history("valid"))
    about = {
        "model": "unisrec-text",
        "fingerprint": data.about["fingerprint"],
        "seconds": time.monotonic() - start,
        "parameters": sum(parameter.numel() for parameter in model.net.parameters() if parameter.requires_grad),
        "settings": {**SETTINGS, "epochs": epochs, "patience": patience, "seed": seed},
        "best_epoch": int(np.argmax(model.best.values)) + 1,
        "validation_ndcg@10": max(model.best.values),
    }
    return model, about


@dataclass(frozen=True)
class Row:
    """The ranks of one model's test targets, from a file of ours or of laserrec's, which have the same form."""

    package: str
    name: str
    about: Mapping[str, Any]
    ranks: pl.DataFrame

    @classmethod
    def load(cls, package: str, name: str, path: Path, fingerprint: str) -> Row:
        """Read a file and refuse one of another data."""
        about = json.loads(pl.read_parquet_metadata(path)["about"])
        if about["fingerprint"] != fingerprint:
            raise SystemExit(f"{path} holds ranks on another split than that of --data. Delete it or name another folder.")
        return cls(package, name, about, pl.read_parquet(path))

    def as_dict(self) -> dict[str, Any]:
        """Return settings and figures."""
        test = {protocol: figures(self.ranks[f"rank_{protocol}"].to_numpy()) for protocol in PROTOCOLS}
        return {"library": self.package, "name": self.name, **self.about, "test": test}

    def against(self, other: Row) -> dict[str, Any]:
        """Return this model's figures minus another's, with the standard error of the paired difference."""
        both = self.ranks.join(other.ranks, on=("user_id", "target_id"), suffix="_other", validate="1:1")
        if not len(both) == len(self.ranks) == len(other.ranks):
            raise SystemExit(f"{self.name} of {self.package} and {other.name} of {other.package} were not evaluated on the same cases.")
        found: dict[str, Any] = {"first": f"{self.package} {self.name}", "second": f"{other.package} {other.name}"}
        for protocol in PROTOCOLS:
            first, second = (per_case(both[f"rank_{protocol}{end}"].to_numpy()) for end in ("", "_other"))
            found[protocol] = {name: _mean_and_error(first[name] - second[name]) for name in first}
        return found


def _mean_and_error(values: NDArray[np.float64]) -> dict[str, float]:
    return {"difference": float(values.mean()), "standard_error": float(values.std(ddof=1)) / math.sqrt(len(values))}


def main() -> None:
    """Train what is not trained yet, and compare."""
    chosen = _command_line()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    warnings.simplefilter("ignore")
    data = Prepared.load(chosen.data)
    chosen.out.mkdir(parents=True, exist_ok=True)
    fingerprint = data.about["fingerprint"]
    theirs = []
    for name in chosen.fits:
        path = chosen.out / f"{name}.parquet"
        if not path.is_file():
            how = {"epochs": chosen.epochs, "patience": chosen.patience, "seed": chosen.seed}
            model, about = fit_unisrec(data, chosen.texts, **how) if name == UNISREC else fit(name, data, **how)
            ranked(model, data, "test", k=data.items).write_parquet(path, metadata={"about": json.dumps(about)})
        theirs.append(Row.load("rectools", name, path, fingerprint))
    paths = [path for run in chosen.ours for path in sorted(run.glob("*/ranks-test.parquet")) if path.parent.name in NAMES]
    ours = [Row.load("laserrec", f"{path.parts[-3]}/{path.parts[-2]}", path, fingerprint) for path in paths]
    pairs = [(our, their) for our in ours for their in theirs if their.name == our.name.rpartition("/")[2]]
    found = {
        "benchmark": "rectools",
        **provenance(),
        "dataset": {name: data.about[name] for name in ("name", "fingerprint", "counts")},
        "rows": [row.as_dict() for row in (*theirs, *ours)],
        "differences": [our.against(their) for our, their in pairs],
    }
    json.dump(found, sys.stdout, indent=1)
    sys.stdout.write("\n")


def _command_line() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of a prepared dataset")
    parser.add_argument("--out", type=Path, required=True, help="folder for RecTools' ranks; a fit whose ranks lie there is not done again")
    parser.add_argument("--ours", type=Path, nargs="*", default=[], metavar="RUN", help="folders that `laserrec baseline` wrote")
    parser.add_argument("--fits", nargs="+", choices=NAMES, default=list(FITS))
    parser.add_argument("--texts", type=Path, metavar="FILE", help="vectors-….safetensors of laserrec's cache, which unisrec-text reads")
    parser.add_argument("--epochs", type=int, default=150, help="at most")
    parser.add_argument("--patience", type=int, default=10, help="epochs without a better validation NDCG@10")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    if UNISREC in chosen.fits and chosen.texts is None:
        parser.error("unisrec-text reads text vectors: run `laserrec baseline last-text` and name the file with --texts")
    return chosen


def provenance() -> dict[str, Any]:
    """Return when, how and with what it was measured."""
    packages = ("rectools", "torch", "pytorch-lightning", "numpy", "pandas", "polars")
    machine = {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", *sys.argv]),
        "machine": machine,
        "versions": {name: version(name) for name in packages},
    }


if __name__ == "__main__":
    main()
