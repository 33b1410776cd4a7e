"""A trained Laser on disk: safetensors, JSON and one Parquet table; never pickle, and never the LLM's weights.

config.json                 the settings
laser.json                  format, provenance, costs, sizes, checksums of the files below
laser.safetensors           virtual tokens, M-Former, scorer, item matrix
collaborative.safetensors   the frozen sequential recommenders, and which items they know
items.parquet               item_id and attributes, in index order
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import polars as pl
import torch
from torch import Tensor
from torch.nn.functional import pad

from laserrec.assets.hub import HUB, fetch_repository, hub_errors
from laserrec.config import LaserConfig
from laserrec.data.files import UNREADABLE, write_parquet
from laserrec.data.values import attribute_order
from laserrec.errors import AssetError, CheckpointError
from laserrec.laser.collaborative_view import CollaborativeView
from laserrec.laser.model import LaserModel
from laserrec.layers.neighbours import COUNT, EVENTS_FLOOR, Neighbours
from laserrec.sequential.base import SequentialRecommender
from laserrec.sequential.build import build_recommender
from laserrec.sequential.ensemble import Ensemble
from laserrec.system.atomic_folder import FolderKind
from laserrec.system.files import read_json, read_tensors, write_json, write_tensors

FORMAT = 5
RENAMED = {
    "scorer.trust": "scorer.collaborative_weight",
    "scorer.nearness": "scorer.neighbour_weight",
    "scorer.penalty": "scorer.seen_penalty",
    "scorer.lift": "scorer.cold_start_bonus",
    "scorer.mixing": "scorer.whitening",
}
"""Names of trained tensors in folders of earlier versions."""
IDF = "lexical.idf"
"""How rare each token was in the first catalogue, float [V]."""
NEIGHBOURS, EASE = "neighbours.items", "ease.items"
"""How the name of a table of neighbours ends."""
LARGEST = 1e6  # of any weight: trained ones stay below some thousands, and products of larger ones leave float32
NOT_NEGATIVE = (0.0, LARGEST)
ALLOWED = {
    "neighbours.weights": NOT_NEGATIVE,
    "ease.weights": NOT_NEGATIVE,
    "scorer.shares": NOT_NEGATIVE,
    "scorer.log_scale": (-2.0, 2.0),  # times GAIN: 1/τ from e⁻²⁰ to e²⁰
    IDF: (-1e-6, 22.0),  # ln of 1 to 2³¹ texts; a token of every text has 0, or by rounding less
}
"""How the names of some tensors end, and from where to where their numbers may go: far beyond all that counting and fitting give."""
SEALED = ("laser.safetensors", "collaborative.safetensors", "items.parquet")
"""Files whose sha256 laser.json holds; the settings beside them may be edited, say to name another place of the LLM."""
FILES = ("config.json", "laser.json", *SEALED)
_KIND = FolderKind("model", FILES, mark="laser.json", error=CheckpointError)


@dataclass(frozen=True)
class ModelFolder:
    """What a model folder holds.

    Attributes:
        config: the settings.
        catalogue: `item_id` and attributes of each item, in index order; nothing of one that was removed.
        collaborative: the frozen sequential recommender.
        weights: state dict of the trained part, the item matrix and its neighbours among it.
        provenance: dataset, its fingerprint, the LLM's fingerprint.
        costs: seconds and parameters.
        removed: items that only keep their index, bool [N]; none when None.
    """

    config: LaserConfig
    catalogue: Sequence[Mapping[str, str]]
    collaborative: CollaborativeView
    weights: Mapping[str, Tensor]
    provenance: Mapping[str, Any]
    costs: Mapping[str, Any]
    removed: Tensor | None = None

    @property
    def columns(self) -> list[str]:
        """The attributes of the items that the model was trained on, in the catalogue's order; later items may have brought others."""
        names = attribute_order(self.catalogue[: self.collaborative.model.catalogue_size])
        return [name for name in names if name != "item_id"]

    def write(self, folder: str | Path) -> None:
        """Write the folder, aside first; a model that is there is replaced when the new one is complete.

        Raises:
            CheckpointError: something else stands there, or the disk refuses.
        """
        _KIND.write(_KIND.place(folder), self._write)

    def _write(self, folder: Path) -> None:
        view = self.collaborative
        write_tensors(folder / "laser.safetensors", self.weights, {})
        tensors = {f"model.{name}": tensor for name, tensor in view.model.state_dict().items()}
        if view.scorer is not view.model:
            tensors |= {f"scorer.{name}": tensor for name, tensor in view.scorer.state_dict().items()}
        tensors |= {"known": view.known, "scored": view.scored.clone()}
        if self.removed is not None and bool(self.removed.any()):
            tensors["removed"] = self.removed
        write_tensors(folder / "collaborative.safetensors", tensors, {})
        table = pl.DataFrame(list(self.catalogue), schema=dict.fromkeys(attribute_order(self.catalogue), pl.String))
        write_parquet(table, folder / "items.parquet")
        about = {"format": FORMAT, "provenance": self.provenance, "costs": self.costs, "known": view.model.catalogue_size}
        write_json(folder / "laser.json", about | {"sha256": checksums(folder)})
        self.config.save(folder / "config.json")

    @classmethod
    def read(cls, source: str | Path) -> Self:
        """Read a model's folder, the folder of the run that trained it, or a Hugging Face repository `hf:owner/name`.

        Raises:
            AssetError: there is no such folder or repository.
            CheckpointError: a file is missing, damaged or of another format, or the run did not get so far.
            ConfigError: the settings are not those of this version.
        """
        folder = _locate(source)
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            refuse_seeds(folder)
            raise CheckpointError(f"{folder} is not a complete laserrec model: it lacks {', '.join(missing)}.")
        config = LaserConfig.load(folder / "config.json")
        about = _read_about(folder)
        trained, _ = read_tensors(folder / "laser.safetensors", sealed=False)  # laser.json has the sha256 of the files
        weights = {RENAMED.get(name, name): tensor for name, tensor in trained.items()}
        if "scorer.lexical_weight" not in weights:  # of an earlier version, which counted no words
            config = config.model_copy(update={"score": config.score.model_copy(update={"lexical": False})})
        tensors, _ = read_tensors(folder / "collaborative.safetensors", sealed=False)
        try:
            known, scored, removed = tensors.pop("known"), tensors.pop("scored"), tensors.pop("removed", None)
            removed = torch.zeros_like(known, dtype=torch.bool) if removed is None else removed
            catalogue = _read_items(folder / "items.parquet")
            counts = [len(catalogue), *(len(tensor) if tensor.ndim else 0 for tensor in (known, scored, removed, weights["item_states"]))]
            if len(set(counts)) > 1:
                raise ValueError(f"its files do not belong together, of {counts[0]} items the weights have {counts[1:]}")
            _check_masks(known, scored, about["known"])
            if removed.dtype != torch.bool or ["item_id" not in item for item in catalogue] != removed.tolist():
                raise ValueError("the item table must have an item_id of its own for every item but those that were removed")
            _check_numbers(weights, len(catalogue))
            _check_numbers(tensors, about["known"])
            model = _recommender(config, about["known"], "model.", tensors)
            own = not any(name.startswith("scorer.") for name in tensors)
            view = CollaborativeView(model, known, None if own else _ensemble(config, about["known"], tensors), scored)
        except (OSError, LookupError, ValueError, TypeError, RuntimeError, AssertionError, *UNREADABLE) as error:
            raise CheckpointError(f"{folder} is not a complete laserrec model: {error}") from error
        return cls(config, catalogue, view, weights, about["provenance"], about["costs"], removed)

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

    def idf(self, vocabulary: int) -> Tensor | None:
        """Return how rare each of the LLM's tokens was in the first catalogue, float [V]; None where the score counts no words.

        Raises:
            CheckpointError: the model has not that many tokens, or none where its settings count words.
        """
        idf = self.weights.get(IDF)
        if self.config.score.lexical and (idf is None or idf.shape != (vocabulary,)):
            received = "none" if idf is None else str(list(idf.shape))
            raise CheckpointError(f"The model folder's {IDF} must hold {vocabulary} numbers, one a token; received {received}.")
        return idf

    def restore(self, model: LaserModel) -> None:
        """Load the trained weights into a model of these settings.

        Raises:
            CheckpointError: they do not fit.
        """
        table = self.weights.get(NEIGHBOURS)
        if model.neighbours is not None and table is not None and table.ndim == 2:  # rows are longer where items came later
            model.neighbours = Neighbours(len(model.item_states), model.neighbours.floor, max(COUNT, table.shape[1])).to(
                model.item_states.device
            )
        try:
            model.load_state_dict({name: weight for name, weight in self.weights.items() if name != IDF})
        except RuntimeError as error:
            raise CheckpointError(f"The weights do not fit the settings beside them: {error}") from error


def seed_runs(folder: Path) -> list[Path]:
    """Return the runs in a folder of seeds, in the order of their seeds; none in any other folder."""
    runs = [path.parent for path in folder.glob("seed-*/run.json") if path.parent.name.removeprefix("seed-").isdecimal()]
    return sorted(runs, key=lambda run: int(run.name.removeprefix("seed-")))


def refuse_seeds(folder: Path) -> None:
    """Refuse a folder of seeds where one run is asked for.

    Raises:
        CheckpointError: it is one.
    """
    if runs := seed_runs(folder):
        trained = next((f"Name one, such as {run}" for run in runs if (run / "model").is_dir()), "None has a trained model")
        raise CheckpointError(f"{folder} holds a run for each of several seeds. {trained}.")


def to_finish(run: Path) -> str:
    """Return, as a sentence, how a run that is not finished goes on."""
    command = read_json(run / "run.json").get("command")
    return f"Resume it; it was begun with: {shlex.join(map(str, command))}" if isinstance(command, list) else "Resume it."


def model_of(run: Path) -> Path:
    """Return where the model lies that a run trained.

    Raises:
        CheckpointError: training did not get so far.
    """
    folder = run / "model"
    _KIND.recover(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{run} holds no trained model yet. {to_finish(run)}")
    return folder


def checksums(folder: Path) -> dict[str, str]:
    """Return the sha256 of a model folder's tables and tensors, by file name."""
    found = {}
    for name in SEALED:
        with (folder / name).open("rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _read_about(folder: Path) -> dict[str, Any]:
    """Read laser.json, and compare the files beside it with what it says of them before any is decoded."""
    about = read_json(folder / "laser.json")
    if about.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder} has format {about.get('format')!r}; this version reads format {FORMAT}. Use the laserrec that wrote it."
        )
    if not isinstance(about.get("provenance"), dict) or not isinstance(about.get("costs"), dict):
        raise CheckpointError(f"{folder / 'laser.json'} does not tell what the model was trained on.")
    expected = about.get("sha256")
    damaged = [name for name, sha256 in checksums(folder).items() if not isinstance(expected, dict) or expected.get(name) != sha256]
    if damaged:
        raise CheckpointError(f"{folder} is damaged: {', '.join(damaged)} differs from the sha256 in laser.json. Restore it from a copy.")
    return about


def _read_items(path: Path) -> list[dict[str, str]]:
    """Read `item_id` and attributes of each item; one that was removed has none."""
    table = pl.read_parquet(path)
    if set(table.dtypes) != {pl.String} or not table["item_id"].drop_nulls().is_unique().all():
        raise ValueError("the item table must have text columns only, and an item_id of its own for every item")
    return [{key: value for key, value in row.items() if value is not None} for row in table.iter_rows(named=True)]


def _check_numbers(tensors: Mapping[str, Tensor], count: int) -> None:
    """Refuse weights that are not finite float32, and tables of neighbours that name other items than the first `count`."""
    tables = {name: tensor for name, tensor in tensors.items() if name.endswith((NEIGHBOURS, EASE))}
    wrong = [
        name for name, tensor in tensors.items() if name not in tables and not (tensor.dtype == torch.float32 and tensor.isfinite().all())
    ]
    if wrong:
        raise ValueError(f"weights must be finite float32; {', '.join(wrong)} are not")
    for name, tensor in tensors.items():
        low, high = next((bounds for ending, bounds in ALLOWED.items() if name.endswith(ending)), (-LARGEST, LARGEST))
        if name not in tables and bool(((tensor < low) | (tensor > high)).any()):
            raise ValueError(f"the numbers of {name} must be from {low:g} to {high:g}")
    wrong = [name for name, table in tables.items() if table.dtype != torch.int32 or bool(((table < 0) | (table >= count)).any())]
    if wrong:
        raise ValueError(f"neighbours must be int32 from 0 to {count - 1}; {', '.join(wrong)} are not")


def _check_masks(known: Tensor, scored: Tensor, size: object) -> None:
    """Refuse masks [N] that name items beyond the sequential recommender's own, of which there are `size`."""
    if not isinstance(size, int) or not 1 <= size <= len(known):
        raise ValueError(f"the recommender's size is {size!r}; allowed is 1 to {len(known)}")
    for mask in (known, scored):
        if mask.dtype != torch.bool or mask.ndim != 1 or mask[size:].any():
            raise ValueError("the marks of known items must be one boolean each, false beyond the recommender's catalogue")


def _recommender(config: LaserConfig, catalogue_size: int, prefix: str, tensors: Mapping[str, Tensor]) -> SequentialRecommender:
    # Built without memory: shapes are compared before anything is allocated.
    with torch.device("meta"):
        model = build_recommender(config.collaborative, catalogue_size)
    # Copied: a tensor inside a file is aligned otherwise than one of torch's own, and sums then differ in the last bit.
    own = {name.removeprefix(prefix): tensor.clone() for name, tensor in tensors.items() if name.startswith(prefix)}
    model.load_state_dict(own, assign=True)
    return model


def _ensemble(config: LaserConfig, catalogue_size: int, tensors: Mapping[str, Tensor]) -> Ensemble:
    parts = {name.split(".")[1] for name in tensors if name.startswith("scorer.")} - {"neighbours", "ease", "shares"}
    members = [
        _recommender(config, catalogue_size, f"scorer.{member}.", tensors) for member in sorted(parts, key=lambda part: (len(part), part))
    ]
    tables = (Neighbours(catalogue_size, EVENTS_FLOOR) if f"scorer.{name}" in tensors else None for name in (NEIGHBOURS, EASE))
    ensemble = Ensemble(members, *tables)
    own = {name.removeprefix("scorer."): tensor for name, tensor in tensors.items() if name.startswith("scorer.")}
    if own["shares"].shape == (2,):  # of an earlier version, which knew no EASE
        own["shares"] = pad(own["shares"], (0, 1))
    ensemble.load_state_dict(own)
    return ensemble


def _locate(source: str | Path) -> Path:
    """Return the local folder of a model; only a name that says so is looked for on the hub."""
    if isinstance(source, str) and source.startswith(HUB):
        return fetch_repository(source.removeprefix(HUB), FILES)
    folder = _KIND.place(source)
    _KIND.recover(folder)
    if not folder.is_dir():
        raise AssetError(
            f"There is no model folder {str(source)!r} here. Give the folder of a run, or one that Laser.save wrote; "
            f"a repository on the Hugging Face hub is written {HUB}owner/name."
        )
    return model_of(folder) if (folder / "run.json").is_file() else folder


def upload(folder: Path, repository: str, *, private: bool, token: str | None) -> str:
    """Upload a model folder to the Hugging Face hub; arguments and result as in `Laser.push_to_hub`.

    Raises:
        AssetError: the hub refuses, or cannot be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        return api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload a laserrec model").commit_url
    except hub_errors() as error:
        raise AssetError(f"The model cannot be pushed to the Hugging Face repository {repository!r}: {error}") from error
