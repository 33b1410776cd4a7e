"""What the stages of one run share: each thing is computed once, when a stage first asks for it, and what a stage makes is left here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from laserrec.config import CollaborativeConfig, FitConfig, LaserConfig
from laserrec.data.dataset import Cases, Dataset
from laserrec.data.ragged import Ragged
from laserrec.data.tables import ITEM, TITLE
from laserrec.errors import DataError
from laserrec.laser.collaborative_view import CollaborativeView
from laserrec.laser.item_texts import ItemTexts
from laserrec.laser.system import LaserSystem, build_laser
from laserrec.laser.transfer import Start
from laserrec.llm.backbone import Backbone
from laserrec.llm.loading import load_backbone
from laserrec.sequential.base import SequentialRecommender
from laserrec.system.devices import choose
from laserrec.system.progress import Observer, Progress, watched
from laserrec.system.resources import available_memory, resident_memory
from laserrec.training.estimates import Estimate
from laserrec.training.loop import FitResult, Trainable, fit
from laserrec.training.strategy import ALONE, Strategy
from laserrec.training.text_vectors import TextVectors

COLLABORATIVE = "collaborative"
"""The fit whose recommender Laser reads histories with."""


@dataclass(frozen=True)
class SequentialFit:
    """A trained sequential recommender.

    Attributes:
        model: its best weights.
        seen: the items that it was trained on, bool [N].
        parameters: trained ones.
        seconds: of the fit.
        score: its best validation score.
    """

    model: SequentialRecommender
    seen: Tensor
    parameters: int
    seconds: float
    score: float


class Stage(Protocol):
    """One part of a run; a run is a list of them."""

    @property
    def name(self) -> str:
        """What progress, logs and estimates call it; it keeps its checkpoint in a folder of this name."""

    def run(self, context: FitContext) -> None:
        """Do the work, or find it done, and leave what it made in the context."""

    def estimate(self, context: FitContext) -> Estimate:
        """Predict the work from one timed step; what later stages stand on is left in the context, untrained."""


@dataclass
class FitContext:
    """One run: what it is given, what follows from that, and what its stages have made.

    Attributes:
        data: histories to learn from and cases to validate on; test events are not looked at.
        config: the settings.
        folder: each fit keeps its checkpoint in a folder below; None to keep none.
        resume: go on from checkpoints that are there; otherwise there must be none.
        observers: who watches.
        device: where everything is computed; a fit that was stopped may be resumed on another one.
        strategy: the processes that train together, each over a context of its own.
        vectors: each item's text as one vector, once a stage has made them.
        fits: sequential recommenders by name, as stages have trained them.
        stages: outcomes of stage 1 and stage 2 by name.
        fusing: seconds of choosing what is fused.
        tried: estimates of sequential fits, by settings, so that each kind is tried once.
    """

    data: Dataset
    config: LaserConfig
    folder: Path | None = None
    resume: bool = True
    observers: Sequence[Observer] = ()
    device: torch.device = field(default_factory=choose)
    strategy: Strategy = ALONE
    vectors: TextVectors | None = None
    fits: dict[str, SequentialFit] = field(default_factory=dict)
    stages: dict[str, FitResult] = field(default_factory=dict)
    fusing: float = 0.0
    tried: dict[tuple[CollaborativeConfig, FitConfig], Estimate] = field(default_factory=dict)

    @cached_property
    def histories(self) -> Ragged:
        """Training histories of item indices."""
        return self.data.training_histories()

    @cached_property
    def popularity(self) -> NDArray[np.int64]:
        """Training events of each item, int64 [N]."""
        return np.bincount(self.histories.values, minlength=len(self.data.item_ids))

    @cached_property
    def valid(self) -> Cases:
        """Every validation case.

        Raises:
            DataError: the dataset has none.
        """
        cases = self.data.cases("valid")
        if not len(cases):
            raise DataError(
                "The dataset has no validation case: no user has an event before a validation event. Prepare it with another split."
            )
        return cases

    @cached_property
    def _samples(self) -> dict[int, Cases]:
        return {}

    def cases(self, config: FitConfig) -> Cases:
        """Return the cases that a fit validates on: all of them, or a sample drawn from the run's seed.

        Raises:
            DataError: the dataset has none.
        """
        wanted = config.validation_cases
        if wanted is None:
            return self.valid
        if wanted not in self._samples:
            self._samples[wanted] = self.valid.sample(wanted, self.config.seed)
        return self._samples[wanted]

    @cached_property
    def available(self) -> int:
        """Bytes of the device's memory that the run may have."""
        return available_memory(self.device) + resident_memory(self.device)

    @property
    def memory_for_trials(self) -> int:
        """Bytes of them that an estimate may use at a time."""
        return self.available // 8

    @cached_property
    def backbone(self) -> Backbone:
        """The frozen language model.

        Raises:
            AssetError: it cannot be had.
        """
        return load_backbone(self.config, self.device)

    @cached_property
    def start(self) -> Start | None:
        """The trained model that this one starts from, if the settings name one.

        Raises:
            AssetError: it cannot be had.
            CheckpointError: it is damaged, or was trained around another language model.
            ConfigError: its settings mean something else.
            DataError: it was trained on events that the dataset may hide.
        """
        if self.config.start is None:
            return None
        start = Start.read(self.config.start, self.data).require_alike(self.config)
        start.stored.check_llm(self.backbone.fingerprint())
        return start

    @cached_property
    def texts(self) -> ItemTexts:
        """The items' texts and their reader; nothing is encoded yet.

        Raises:
            ConfigError: the prompt names an attribute that no item has.
        """
        config, columns = self.config, [column for column in self.data.items.columns if column != ITEM]
        read_out, limit = config.virtual.read_out, config.runtime.text_memory
        texts = ItemTexts(self.backbone, config.prompt, self.data.attributes(), read_out, config.llm, columns, limit)
        texts.template.check([column for column in columns if column != TITLE])
        return texts

    @cached_property
    def texts_missing(self) -> int:
        """Bytes of texts that were not encoded when this was first asked."""
        return self.texts.missing_bytes

    @cached_property
    def system(self) -> LaserSystem:
        """Laser around the first sequential recommender: untrained or with the start's weights, until its stages have run."""
        first = self.fits[COLLABORATIVE]
        system = build_laser(self.config, self.backbone, self.texts, CollaborativeView(first.model, first.seen))
        if self.start is not None:
            self.start.give(system.model)
        return system

    def load(self) -> None:
        """Load the language model, the start and the prompt, so that what is wrong with them stops a run now rather than after hours."""
        _ = self.backbone, self.start, self.texts

    @property
    def identity(self) -> dict[str, Any]:
        """What every fit of the run depends on: the events, the items, their order and their texts."""
        return {"data": self.data.fingerprint, "items": self.data.catalogue_digest}

    def fit(
        self, task: Trainable, config: FitConfig, *, name: str, seed: int, identity: Mapping[str, Any], micro_batch: int | None
    ) -> FitResult:
        """Train a task in a folder of its own, watched and resumable; arguments as in `loop.fit`."""
        return fit(
            task,
            config,
            name=name,
            seed=seed,
            folder=None if self.folder is None else self.folder / name,
            identity={**self.identity, **identity},
            resume=self.resume,
            observers=self.observers,
            micro_batch=micro_batch,
            checkpoint_seconds=self.config.runtime.checkpoint_seconds,
            strategy=self.strategy,
            shards=self.config.runtime.shards,
        )

    def watched(self, name: str, steps: int) -> AbstractContextManager[Progress]:
        """Report progress of work other than a fit; yields a callback that takes the number of finished steps."""
        return watched(self.observers, name, steps)

    def log(self, text: str) -> None:
        """Tell the observers in a sentence what follows."""
        for observer in self.observers:
            observer.log(text)
