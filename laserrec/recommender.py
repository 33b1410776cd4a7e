"""The public class: train, evaluate, recommend, add items, save, load.

Speaks the caller's own item ids and titles; indices and tensors stay below.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import RLock
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from laserrec.config import LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.data.ragged import Ragged
from laserrec.errors import ConfigError, DataError, UnknownIdError
from laserrec.evaluation.metrics import Evaluation, evaluate
from laserrec.laser.collaborative_view import CollaborativeView
from laserrec.laser.folder import ModelFolder, upload
from laserrec.laser.item_texts import ItemTexts
from laserrec.laser.ranker import Ranker
from laserrec.laser.ranking_requests import EncodedHistories, Recommendation, barred_items, rank
from laserrec.laser.system import LaserSystem
from laserrec.laser.transfer import Start, provenance_of
from laserrec.laser.validation import check_item, check_lift, check_request, check_states
from laserrec.layers.histories import padded
from laserrec.llm.loading import load_backbone
from laserrec.sequential.build import build_recommender
from laserrec.system.cache import texts_folder
from laserrec.system.devices import choose
from laserrec.training.fit import build_laser, costs_of, fit_collaborative, fit_laser, reads_texts, refit_collaborative
from laserrec.training.language import dataset_texts, encode_texts
from laserrec.training.observers import bar_on_terminal
from laserrec.training.session import Session
from laserrec.training.text_vectors import text_vectors


class Laser:
    """A trained Laser over a catalogue, ready to recommend; several threads may use one.

    Attributes:
        config: the settings it was trained with.
        item_ids: the catalogue's ids, in index order.
        provenance: what it was trained on: dataset name, fingerprint, split.
        costs: seconds and trained parameters of each part.
    """

    def __init__(
        self, config: LaserConfig, item_ids: Sequence[str], texts: ItemTexts, system: LaserSystem, provenance: Mapping[str, Any]
    ) -> None:
        """Put a recommender together; `fit` and `load` are the ways to get one."""
        self.config, self.item_ids, self.provenance = config, list(item_ids), dict(provenance)
        self.costs: dict[str, Any] = {}
        self._texts, self._system = texts, system
        self._ranker: Ranker | None = None
        self._index = {item_id: index for index, item_id in enumerate(self.item_ids)}
        # Texts are encoded when they are first read, so even a recommendation changes what is shared.
        self._lock = RLock()

    @classmethod
    def fit(
        cls,
        data: Dataset,
        config: LaserConfig | None = None,
        *,
        folder: str | Path | None = None,
        session: Session | None = None,
        device: str | torch.device | None = None,
    ) -> Self:
        """Train on a dataset: the id-based recommender, then Laser's two stages.

        Args:
            data: the dataset; its test events are not looked at.
            config: the settings; the default preset when unset.
            folder: where checkpoints are kept; the same call goes on from what is there, were it stopped. Nothing is kept when unset.
            session: in the place of a folder: where checkpoints are kept, whether to go on from them, and who watches. Without one a
                progress bar does, where stderr is a terminal.
            device: where to train: `cpu`, `cuda`, `cuda:1` or `mps`; the session's when unset, which is a GPU where CUDA sees one.

        Raises:
            AssetError: the LLM cannot be had.
            CheckpointError: the folder holds checkpoints of other settings or data, or ones that the session is not to go on from.
            ConfigError: this machine has no such device, or both a folder and a session are given.
            InterruptedTraining: Ctrl-C; where there is a folder, the same call goes on.
        """
        if session is None:
            session = Session(None if folder is None else Path(folder), resume=True, observers=bar_on_terminal())
        elif folder is not None:
            raise ConfigError(f"Received the folder {str(folder)!r} and a session, which has one of its own; give one of the two.")
        session = replace(session, device=choose(session.device if device is None else device))
        config = config or LaserConfig()
        backbone = load_backbone(config, session.device)
        start = None if config.start is None else Start.read(config.start, data).require_alike(config)
        if start is not None:
            start.stored.check_llm(backbone.fingerprint())
        texts = dataset_texts(data, config, backbone)
        vectors = text_vectors(data, config.prompt, backbone, session) if reads_texts(config) else None
        collaborative = fit_collaborative(
            data,
            config.collaborative,
            config.fit_collaborative,
            seed=config.seed,
            session=session,
            hold_out=config.collaborative.hold_out,
            name="collaborative",
            texts=vectors,
        )
        encoding = encode_texts(texts, session)
        view = CollaborativeView(collaborative.model, collaborative.seen)
        system = build_laser(config, backbone, texts, view)
        if start is not None:
            start.give(system.model)
        known = {"llm": backbone.fingerprint()} | ({} if start is None else {"start": start.digest})
        stages = fit_laser(system, data, config, known=known, session=session)
        refits, fusing = refit_collaborative(system, data, config, session=session, texts=vectors)
        laser = cls(config, data.item_ids, texts, system, provenance_of(data, backbone, start))
        if vectors is not None:
            encoding["seconds"] += vectors.seconds
        laser.costs = {"texts": encoding} | costs_of([collaborative, *refits], stages, fusing, system)
        return laser

    @classmethod
    def transfer(
        cls, source: str | Path, data: Dataset, *, session: Session | None = None, device: str | torch.device | None = None
    ) -> Self:
        """Carry a trained model over to another catalogue as it is: nothing is learnt from the dataset's events (paper §4.3, zero-shot).

        Items are known by their texts alone, and no id-based recommender reads the histories. To train further, see the setting `start`.

        Args:
            source: a model folder, a run's folder, or a Hugging Face repository `hf:owner/name`.
            data: the other catalogue.
            session: who watches; nothing is kept.
            device: where to embed and recommend, as in `fit`.

        Raises:
            CheckpointError: the folder is damaged, or the LLM at hand is not the one it was trained around.
            AssetError: the folder, or the LLM, cannot be had.
            ConfigError: the prompt names an attribute that the catalogue does not have, or this machine has no such device.
            DataError: the dataset is the one that the model was trained on, or made from it.
        """
        start, session = Start.read(source, data), session or Session()
        if start.has_learnt_from(data):
            raise DataError(f"The model, or one that it started from, was trained on {data.name!r} itself; give another dataset.")
        session = replace(session, device=choose(session.device if device is None else device))
        config, backbone = start.stored.config, load_backbone(start.stored.config, session.device)
        start.stored.check_llm(backbone.fingerprint())
        texts = dataset_texts(data, config, backbone)
        encoding = encode_texts(texts, session)
        torch.manual_seed(config.seed)
        untrained = build_recommender(config.collaborative, len(data.item_ids))
        view = CollaborativeView(untrained, torch.zeros(len(data.item_ids), dtype=torch.bool))
        system = build_laser(config, backbone, texts, view)
        start.give(system.model)
        system.refresh()
        laser = cls(config, data.item_ids, texts, system, provenance_of(data, backbone, start))
        laser.costs = {"texts": encoding}
        return laser

    def evaluate(self, data: Dataset, split: Literal["valid", "test"] = "test") -> Evaluation:
        """Rank the whole catalogue for every case of a split, under both protocols.

        Args:
            data: the dataset this was trained on.
            split: which cases.

        Raises:
            DataError: the dataset is not the one this was trained on, or items were added since.
        """
        if data.fingerprint != self.provenance.get("fingerprint"):
            trained = f"{self.provenance.get('dataset')!r}, {str(self.provenance.get('fingerprint'))[:12]}…"
            raise DataError(
                f"{data.name!r} has fingerprint {data.fingerprint[:12]}…; this model was trained on {trained}, "
                "whose training events may be another split's test events. Evaluate it on its own dataset."
            )
        popularity = np.bincount(data.training_histories().values, minlength=len(data.item_ids))
        about = {"model": "Laser", "dataset": data.name, "fingerprint": data.fingerprint, "part": split}
        with self._lock:
            if list(data.item_ids) != self.item_ids:
                raise DataError("Items were added since training; evaluate the model as it was saved before.")
            scores, cases, device = self._ready().scores, data.cases(split), self.device
            return evaluate(scores, cases, popularity=popularity, device=device, about=about)

    def recommend(
        self,
        histories: Sequence[Sequence[str]],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        only: Collection[str] | None = None,
        without: Collection[str] | None = None,
        states: NDArray[np.float32] | None = None,
    ) -> list[list[Recommendation]]:
        """Recommend the next item after histories of item ids.

        Args:
            histories: item ids in time order, at least one each.
            k: how many items; fewer come back where fewer are left.
            exclude_seen: leave the history's own items out.
            only: ids to choose from, say those in stock or of a category; the whole catalogue when unset.
            without: ids that are never recommended, whatever `only` says.
            states: what `encode_histories` returned for these histories, [B, H]; with it, the language model reads nothing.

        Raises:
            UnknownIdError: an id that the catalogue does not hold; the message names the closest known ones.
            DataError: an empty history, k below 1, or states of another shape.
        """
        check_request(histories, k)
        with self._lock:
            rows = [[self._find(item_id) for item_id in history] for history in histories]
            return self._answer(rows, k, exclude_seen, only, without, states)

    def encode_histories(self, histories: Sequence[Sequence[str]]) -> EncodedHistories:
        """Read histories of item ids with the language model, once; `recommend` accepts the states as often as you like.

        A state depends on the texts of its history's items and on nothing else of the catalogue.

        Args:
            histories: item ids in time order, at least one each.

        Returns:
            A state for each history, and which query expert read it.

        Raises:
            UnknownIdError: an id that the catalogue does not hold.
            DataError: an empty history.

        Example:
            >>> encoded = laser.encode_histories([["tent", "stove"]])  # doctest: +SKIP
            >>> laser.recommend([["tent", "stove"]], k=3, states=encoded.states)  # doctest: +SKIP
        """
        check_request(histories, k=1)
        with self._lock:
            self._ready()  # puts the system into evaluation mode
            rows = Ragged.from_rows([[self._find(item_id) for item_id in history] for history in histories])
            with torch.no_grad():
                states, routing = self._system.embed(*padded(rows, self.device))
        chosen = None if routing is None else [int(expert) for expert in routing.chosen.tolist()]
        return EncodedHistories(states.float().cpu().numpy(), chosen)

    def is_cold(self, item_id: str) -> bool:
        """Return whether an item is known from its text alone: no interaction with it was trained on.

        Raises:
            UnknownIdError: the catalogue does not hold it.
        """
        with self._lock:
            return not bool(self._system.collaborative.scored[self._find(item_id)])

    def fingerprint(self) -> str:
        """Return a sha256 over what was trained, in hexadecimal; it stays the same while items come and go."""
        digest = hashlib.sha256()
        with self._lock:
            parts = (self._system.model, self._system.collaborative.model, self._system.collaborative.scorer)
            for part in parts:
                for name, weight in part.named_parameters():
                    digest.update(name.encode())
                    digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def recommend_texts(
        self,
        texts: Sequence[Sequence[str]],
        k: int = 10,
        *,
        only: Collection[str] | None = None,
        without: Collection[str] | None = None,
    ) -> list[list[Recommendation]]:
        """Recommend after histories of plain texts, say titles, which need not be in the catalogue.

        Args:
            texts: texts in time order, at least one a history.
            k: how many items.
            only: ids to choose from, as in `recommend`.
            without: ids that are never recommended.

        Raises:
            UnknownIdError: `only` or `without` holds an id that the catalogue does not.
            DataError: an empty history, or k below 1.
        """
        check_request(texts, k)
        flat = [{"title": text} for history in texts for text in history]
        with self._lock:
            starts = (np.cumsum([0, *map(len, texts)]) + len(self.item_ids)).tolist()
            histories = [list(range(start, end)) for start, end in pairwise(starts)]
            self._texts.extend(flat)
            try:
                return self._answer(histories, k, False, only, without)
            finally:
                self._texts.shrink(len(flat))

    def add_items(self, items: Sequence[Mapping[str, str]]) -> None:
        """Make new items recommendable at once, from their text alone.

        Args:
            items: for each its `item_id` and its attributes, `title` among them.

        Raises:
            DataError: an item has no id, no text, or an id that is taken; then none is added.
        """
        with self._lock:
            self._add(items)

    def _add(self, items: Sequence[Mapping[str, str]]) -> None:
        added: dict[str, dict[str, str]] = {}
        for place, item in enumerate(items, start=1):
            item_id, attributes = check_item(item, place)
            if item_id in self._index or item_id in added:
                raise DataError(f"New item {place} has the id {item_id!r}, which is in use; choose another. No item was added.")
            added[item_id] = attributes
        self._texts.extend(list(added.values()))
        try:
            self._system.add_items(len(added))
        except BaseException:  # Ctrl-C as well: the parts must hold the same items
            self._texts.shrink(len(added))
            raise
        self._ranker = None
        self._index |= {item_id: len(self.item_ids) + place for place, item_id in enumerate(added)}
        self.item_ids += added

    def title(self, item_id: str) -> str:
        """Return an item's title, or its id where it has none.

        Raises:
            UnknownIdError: the catalogue does not hold it.
        """
        with self._lock:
            return self._texts.items[self._find(item_id)].get("title", item_id)

    def item_vectors(self) -> NDArray[np.float32]:
        """Return the unit vectors by which items are compared with a history, [N, H] in index order."""
        with self._lock:
            return np.array(self._ready().directions.cpu().numpy(), np.float32)

    def experts(self, histories: Sequence[Sequence[str]]) -> list[int] | None:
        """Return which of the M-Former's query experts reads each history of item ids; None where it has none."""
        check_request(histories, k=1)
        with self._lock:
            rows = Ragged.from_rows([[self._find(item_id) for item_id in history] for history in histories])
            chosen = self._system.experts(*padded(rows, self.device))
        return None if chosen is None else [int(expert) for expert in chosen.tolist()]

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._system.device

    @property
    def catalogue(self) -> list[dict[str, str]]:
        """Every item's id and attributes, in index order."""
        with self._lock:
            return [{"item_id": item_id, **item} for item_id, item in zip(self.item_ids, self._texts.items, strict=True)]

    @property
    def new_items(self) -> float:
        """What items that nobody took get beyond the fused score of those like them, in deviations; it may be set, and `save` keeps it."""
        return float(self._system.model.scorer.lift)

    @new_items.setter
    def new_items(self, deviations: float) -> None:
        with self._lock:
            self._system.lift_new(check_lift(deviations))

    @property
    def trained_parameters(self) -> int:
        """Parameters of Laser that were trained; the LLM and the id-based recommender are frozen."""
        return sum(p.numel() for p in self._system.model.parameters() if p.requires_grad)

    def save(self, folder: str | Path) -> None:
        """Write a model folder: safetensors and JSON, everything but the LLM, loadable without the training data."""
        with self._lock:
            # New items get new tensors in the place of the old ones, so references to these stay what they are while they are written.
            view, weights = copy(self._system.collaborative), self._system.model.state_dict()
            stored = ModelFolder(self.config, self.catalogue, view, weights, dict(self.provenance), dict(self.costs))
        stored.write(Path(folder))

    @classmethod
    def load(cls, source: str | Path, *, device: str | torch.device | None = None) -> Self:
        """Load a model folder, the model of a run, or a repository on the Hugging Face hub that `push_to_hub` made.

        Args:
            source: the folder that `save` or `laserrec train` wrote, or `hf:owner/name`.
            device: where it will compute, whatever it was trained on: `cpu`, `cuda`, `cuda:1` or `mps`; when unset a GPU where CUDA sees
                one, else the CPU.

        Raises:
            ConfigError: this machine has no such device.
            CheckpointError: the folder is damaged, the run is not finished, or the LLM at hand is not the one it was trained around.
            AssetError: the folder, or the LLM, cannot be had.
        """
        place, stored = choose(device), ModelFolder.read(source)
        backbone = load_backbone(stored.config, place).for_reading()
        stored.check_llm(backbone.fingerprint())
        items = [{key: value for key, value in item.items() if key != "item_id"} for item in stored.catalogue]
        texts = ItemTexts(backbone, stored.config.prompt, items, stored.config.virtual.read_out, stored.config.llm)
        texts.reuse(texts_folder())
        system = build_laser(stored.config, backbone, texts, stored.collaborative)
        stored.restore(system.model)
        laser = cls(stored.config, [item["item_id"] for item in stored.catalogue], texts, system, stored.provenance)
        laser.costs = dict(stored.costs)
        return laser

    def push_to_hub(self, repository: str, *, private: bool = True, token: str | None = None) -> str:
        """Upload the model folder to the Hugging Face hub.

        Args:
            repository: `owner/name`; made when it does not exist. It is loaded from as `hf:owner/name`.
            private: whether a new repository is private.
            token: an access token; the one logged in with when unset.

        Returns:
            The address of the commit.

        Raises:
            AssetError: the hub refuses, or cannot be reached.
        """
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model"
            self.save(model)
            return upload(model, repository, private=private, token=token)

    def _find(self, item_id: str) -> int:
        if item_id not in self._index:
            raise UnknownIdError("item", item_id, self._index)
        return self._index[item_id]

    def _ready(self) -> Ranker:
        """Return what scores requests; `add_items`, which changes what it prepares, comes back here."""
        if self._ranker is None:
            self._ranker = Ranker(self._system)
        return self._ranker

    def _answer(
        self,
        histories: list[list[int]],
        k: int,
        exclude_seen: bool,
        only: Collection[str] | None,
        without: Collection[str] | None,
        states: NDArray[np.float32] | None = None,
    ) -> list[list[Recommendation]]:
        barred = barred_items(self._find, len(self.item_ids), only, without)
        given = None if states is None else torch.from_numpy(check_states(states, len(histories), self._system.model.item_states.shape[1]))
        given = None if given is None else given.to(self.device)
        parts = rank(self._ready(), histories, k, exclude_seen=exclude_seen, barred=barred, states=given)
        rows = (row for top in parts for row in zip(top.items.tolist(), top.scores.tolist(), strict=True))
        return [[self._describe(item, score) for item, score in zip(*row, strict=True) if item >= 0] for row in rows]

    def _describe(self, item: int, score: float) -> Recommendation:
        item_id = self.item_ids[item]
        return Recommendation(item_id, self._texts.items[item].get("title", item_id), score)
