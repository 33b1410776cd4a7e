"""A model of one catalogue as the start of another one's: what goes along, and when it may."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from laserrec.config import LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.errors import ConfigError, DataError
from laserrec.laser.folder import ModelFolder
from laserrec.laser.model import LaserModel
from laserrec.llm.backbone import Backbone

OF_CATALOGUE = ("item_states", "neighbours.", "scorer.mean", "scorer.whitening", "scorer.cold_start_bonus")
"""Beginnings of the names of what is measured on a catalogue and is of no use to another one."""
FREE = {"drop_state"}
"""Settings of the sections that must be alike which only say how training goes."""


@dataclass(frozen=True)
class Start:
    """A trained model that another one starts from.

    Attributes:
        stored: its model folder.
    """

    stored: ModelFolder

    @classmethod
    def read(cls, source: str | Path, data: Dataset) -> Self:
        """Read a model, and refuse it where it, or what it started from, was trained on events that the dataset may hide.

        Args:
            source: a model folder, a run's folder, or a Hugging Face repository `hf:owner/name`.
            data: what the new model is for.

        Raises:
            AssetError: there is no such folder or repository.
            CheckpointError: the folder is damaged.
            DataError: the dataset was made harder from one that the model, or one before it, was trained on, or from which theirs was made.
        """
        found = cls(ModelFolder.read(source))
        hiding = set(_made_from(data))
        for trained in found.lineage:
            if trained.get("fingerprint") != data.fingerprint and hiding & _datasets(trained):
                raise DataError(
                    f"{data.name!r} leaves out events on which the model {str(source)!r} was trained, itself or by way of its start, with "
                    f"{trained.get('dataset')!r}. Start from a model of another dataset."
                )
        return found

    @property
    def lineage(self) -> list[Mapping[str, Any]]:
        """What the model was trained on, what the one that it started from was, and so on."""
        found: list[Mapping[str, Any]] = []
        link: object = self.stored.provenance
        while isinstance(link, Mapping):
            found.append(link)
            link = link.get("start")
        return found

    def has_learnt_from(self, data: Dataset) -> bool:
        """Whether it, or what it started from, was trained on a dataset or on a part of it."""
        return any(data.fingerprint in _datasets(trained) for trained in self.lineage)

    def require_alike(self, config: LaserConfig) -> Self:
        """Refuse settings under which its weights would mean something else; return what was read.

        Raises:
            ConfigError: they differ in the virtual tokens, the M-Former, the prompt order or what states are compared as.
        """
        own, theirs = _meaning(config), _meaning(self.stored.config)
        wrong = [f"{name} = {own[name]!r} (the model's: {theirs[name]!r})" for name in own if own[name] != theirs[name]]
        if wrong:
            raise ConfigError(f"The model to start from has other settings: received {', '.join(wrong)}. Use the model's.")
        return self

    @property
    def digest(self) -> str:
        """Sha256 of the weights, in hexadecimal: by which a stopped run knows its start again."""
        found = hashlib.sha256()
        for name, tensor in sorted(self.stored.weights.items()):
            found.update(name.encode())
            found.update(tensor.contiguous().numpy().tobytes())
        return found.hexdigest()

    def give(self, model: LaserModel) -> None:
        """Give an untrained model of alike settings these weights, but for those that describe this catalogue.

        A term of the score that only one of the two has stays as it is.
        """
        own = model.state_dict()
        taken = {name: tensor for name, tensor in self.stored.weights.items() if name in own and not name.startswith(OF_CATALOGUE)}
        model.load_state_dict(own | taken)


def provenance_of(data: Dataset, backbone: Backbone, start: Start | None) -> dict[str, Any]:
    """Return what a model was trained on, and what the one that it started from was trained on."""
    own = {"dataset": data.name, "fingerprint": data.fingerprint, "made_from": _made_from(data), "llm_fingerprint": backbone.fingerprint()}
    return own if start is None else own | {"start": dict(start.stored.provenance)}


def _datasets(trained: Mapping[str, Any]) -> set[Any]:
    """Return the fingerprints of the dataset that a model was trained on, and of those that it was made from."""
    return {trained.get("fingerprint"), *trained.get("made_from", [])}


def _made_from(data: Dataset) -> list[str]:
    """Return the fingerprints of the datasets that a restricted one was made from."""
    return [restriction["fingerprint"] for restriction in data.details.get("restricted", [])]


def _meaning(config: LaserConfig) -> dict[str, Any]:
    """Return the settings that say what the weights mean."""
    sections = {"virtual": config.virtual, "mformer": config.mformer}
    found = {f"{name}.{key}": value for name, each in sections.items() for key, value in each.model_dump().items() if key not in FREE}
    return found | {
        "prompt.order": config.prompt.order,
        "score.standardise": config.score.standardise,
        "collaborative.width": config.collaborative.width,
    }
