"""A trained Laser on disk: safetensors, JSON and one Parquet table; never pickle, and never the LLM's weights.

config.json                 the settings
laser.json                  format, provenance, costs, sizes
laser.safetensors           virtual tokens, M-Former, scorer, item matrix
collaborative.safetensors   the frozen id-based recommender, and which items it knows
items.parquet               item_id and attributes, in index order
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import polars as pl
import torch
from torch import Tensor

from laserrec.checkpoint import read_json, read_tensors, write_json, write_tensors
from laserrec.config import LaserConfig
from laserrec.errors import AssetError, CheckpointError
from laserrec.nn.collaborative import CollaborativeView
from laserrec.nn.laser import LaserModel
from laserrec.nn.sequential import SequentialRecommender
from laserrec.training.collaborative import build_recommender

FORMAT = 1
FILES = ("config.json", "laser.json", "laser.safetensors", "collaborative.safetensors", "items.parquet")


@dataclass(frozen=True)
class ModelFolder:
    """What a model folder holds.

    Attributes:
        config: the settings.
        catalogue: `item_id` and attributes of each item, in index order.
        collaborative: the frozen id-based recommender.
        weights: state dict of the trained part.
        provenance: dataset, its fingerprint, the LLM's fingerprint.
        costs: seconds and parameters.
    """

    config: LaserConfig
    catalogue: Sequence[Mapping[str, str]]
    collaborative: CollaborativeView
    weights: Mapping[str, Tensor]
    provenance: Mapping[str, Any]
    costs: Mapping[str, Any]

    def write(self, folder: Path) -> None:
        """Write the folder, aside first; one that is there is replaced when the new one is complete."""
        aside = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        view = self.collaborative
        self.config.save(aside / "config.json")
        write_json(
            aside / "laser.json", {"format": FORMAT, "provenance": self.provenance, "costs": self.costs, "known": view.model.catalogue_size}
        )
        write_tensors(aside / "laser.safetensors", self.weights, {})
        tensors = {f"model.{name}": tensor for name, tensor in view.model.state_dict().items()}
        if view.scorer is not view.model:
            tensors |= {f"scorer.{name}": tensor for name, tensor in view.scorer.state_dict().items()}
        write_tensors(aside / "collaborative.safetensors", tensors | {"known": view.known}, {})
        columns = list(dict.fromkeys(key for item in self.catalogue for key in item))
        pl.DataFrame(list(self.catalogue), schema=dict.fromkeys(columns, pl.String)).write_parquet(aside / "items.parquet")
        if folder.exists():
            _check_ours(folder)
            shutil.rmtree(folder)
        aside.rename(folder)

    @classmethod
    def read(cls, source: str | Path) -> Self:
        """Read a local folder or a Hugging Face repository.

        Raises:
            AssetError: there is no such folder or repository.
            CheckpointError: a file is missing, damaged or of another format.
        """
        folder = _locate(source)
        config = LaserConfig.load(folder / "config.json")
        about = read_json(folder / "laser.json")
        if about.get("format") != FORMAT:
            raise CheckpointError(
                f"{folder} has format {about.get('format')!r}; this version reads format {FORMAT}. Use the laserrec that wrote it."
            )
        weights, _ = read_tensors(folder / "laser.safetensors")
        collaborative, _ = read_tensors(folder / "collaborative.safetensors")
        try:
            table = pl.read_parquet(folder / "items.parquet")
            catalogue = [{key: value for key, value in row.items() if value is not None} for row in table.iter_rows(named=True)]
            known = collaborative.pop("known").to(torch.bool)
            view = CollaborativeView(_recommender(config, int(about["known"]), "model.", collaborative), known)
            if any(name.startswith("scorer.") for name in collaborative):
                view.score_with(_recommender(config, int(about["known"]), "scorer.", collaborative))
            ids = [row["item_id"] for row in catalogue]
        except (OSError, KeyError, ValueError, TypeError, RuntimeError, pl.exceptions.PolarsError) as error:
            raise CheckpointError(f"{folder} is not a complete laserrec model: {error}") from error
        if not len(ids) == len(known) == len(weights.get("item_states", ())) or len(set(ids)) != len(ids):
            raise CheckpointError(
                f"{folder}: the item table has {len(ids)} items, the weights {len(known)}; its files do not belong together."
            )
        return cls(config, catalogue, view, weights, about["provenance"], about["costs"])

    def check_llm(self, fingerprint: str) -> None:
        """Refuse another LLM than the one the virtual tokens were trained around.

        Raises:
            CheckpointError: the fingerprints differ.
        """
        trained = str(self.provenance.get("llm_fingerprint"))
        if fingerprint != trained:
            raise CheckpointError(
                f"The model was trained around a language model with fingerprint {trained[:12]}…; "
                f"{self.config.llm.model!r} here has {fingerprint[:12]}…. "
                "Use the same model, layers and dtype."
            )

    def restore(self, model: LaserModel) -> None:
        """Load the trained weights into a model of these settings.

        Raises:
            CheckpointError: they do not fit.
        """
        try:
            model.load_state_dict(dict(self.weights))
        except RuntimeError as error:
            raise CheckpointError(f"The weights do not fit the settings beside them: {error}") from error


def _recommender(config: LaserConfig, catalogue_size: int, prefix: str, tensors: Mapping[str, Tensor]) -> SequentialRecommender:
    model = build_recommender(config.collaborative, catalogue_size)
    model.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)})
    return model


def _locate(source: str | Path) -> Path:
    if Path(source).is_dir():
        return Path(source)
    if isinstance(source, Path) or source.count("/") != 1:
        raise AssetError(
            f"There is no model folder {str(source)!r}. "
            "Give a folder that `laserrec train` or Laser.save wrote, or a Hugging Face repository owner/name."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, allow_patterns=list(FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise AssetError(f"There is no folder {source!r}, and the Hugging Face repository of that name cannot be had: {error}") from error


def _check_ours(folder: Path) -> None:
    strangers = sorted(path.name for path in folder.iterdir() if path.name not in FILES)
    if strangers:
        raise CheckpointError(f"{folder} exists and holds other files ({', '.join(strangers[:5])}); choose another folder for the model.")
