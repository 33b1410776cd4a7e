"""The public class: train, evaluate, recommend, keep the catalogue up to date, save, load.

Speaks the caller's own item ids and titles; indices and tensors stay below.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from laserrec.config import LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.data.ragged import Ragged
from laserrec.data.reading.memory import ArrowTable
from laserrec.errors import DataError
from laserrec.evaluation.lists import ListMeasures
from laserrec.evaluation.metrics import Evaluation, evaluate
from laserrec.laser.explanation import Explanation, explain
from laserrec.laser.folder import ModelFolder, upload
from laserrec.laser.item_map import ItemMap, item_map
from laserrec.laser.item_texts import ItemTexts
from laserrec.laser.ranking_requests import Choice, EncodedHistories, Recommendation, barred_items, recommend, similar
from laserrec.laser.system import LaserSystem, build_laser
from laserrec.laser.transfer import Start, provenance_of
from laserrec.laser.validation import (
    check_bonus,
    check_evaluated,
    check_explained,
    check_fit,
    check_ids,
    check_items,
    check_request,
    check_texts,
)
from laserrec.layers.histories import padded
from laserrec.llm.loading import load_backbone, located
from laserrec.system.cache import texts_folder
from laserrec.system.devices import choose
from laserrec.system.process import OwnProcess
from laserrec.system.progress import Observer
from laserrec.training.context import FitContext
from laserrec.training.observers import bar_on_terminal
from laserrec.training.pipeline import costs_of, laser_stages, run_stages, transfer_stages
from laserrec.training.strategy import ALONE, Strategy


class Laser:
    """A trained Laser over a catalogue, ready to recommend.

    Any number of threads may use one. Each call answers from the catalogue as it is when the call begins; what changes the catalogue makes
    the next one beside it, completely or not at all. In a fork of the process that loaded it, every call that computes or changes raises
    `ForkedProcessError`.

    Attributes:
        config: the settings it was trained with.
        provenance: what it was trained on: dataset name, fingerprint, split.
        costs: seconds and trained parameters of each part.
    """

    def __init__(
        self,
        config: LaserConfig,
        item_ids: Sequence[str],
        system: LaserSystem,
        provenance: Mapping[str, Any],
        costs: Mapping[str, Any] | None = None,
        removed: torch.Tensor | None = None,
    ) -> None:
        """Put a recommender together; `fit` and `load` are the ways to get one.

        Args:
            config: the settings it was trained with.
            item_ids: the caller's own, in index order.
            system: trained; it is of no further use to others.
            provenance: what it was trained on.
            costs: of training, as `training.pipeline.costs_of` gives them.
            removed: items that only keep their index, bool [N]; none when None.
        """
        self.config, self.provenance, self.costs = config, dict(provenance), dict(costs or {})
        self._process = OwnProcess()
        self._system = system.serving(item_ids, removed)  # each call reads it once; replaced, never changed
        self._changing = Lock()

    @classmethod
    def fit(
        cls,
        data: Dataset,
        config: LaserConfig | None = None,
        *,
        folder: str | Path | None = None,
        resume: bool = True,
        observers: Sequence[Observer] | None = None,
        device: str | torch.device | None = None,
        strategy: Strategy = ALONE,
    ) -> Self:
        """Train on a dataset: a sequential recommender, Laser's two stages, and the ensemble whose score is fused.

        Args:
            data: the dataset; its test events are not looked at.
            config: the settings; the default preset when unset.
            folder: where checkpoints are kept; nothing is kept when unset.
            resume: go on from the checkpoints in the folder; when False there must be none.
            observers: who watches; a progress bar when unset, where stderr is a terminal.
            device: where to train: `cpu`, `cuda`, `cuda:1` or `mps`; when unset a GPU where CUDA sees one, else the CPU.
            strategy: the processes that train together; each calls this with the same arguments, and the main one writes the folder.

        Raises:
            AssetError: the LLM cannot be had.
            CheckpointError: the folder holds checkpoints of other settings or data, or ones that may not be continued.
            ConfigError: this machine has no such device, or the settings are no `LaserConfig`.
            DataError: `data` is no `Dataset`.
            InterruptedTraining: Ctrl-C; where there is a folder, the same call goes on.
        """
        check_fit(data, config)
        place, watching = None if folder is None else Path(folder), bar_on_terminal() if observers is None else observers
        context = FitContext(data, located(config or LaserConfig()), place, resume, watching, choose(device), strategy)
        context.load()
        run_stages(laser_stages(context.config), context)
        return cls._made(context)

    @classmethod
    def transfer(
        cls,
        source: str | Path,
        data: Dataset,
        *,
        observers: Sequence[Observer] = (),
        device: str | torch.device | None = None,
    ) -> Self:
        """Carry a trained model over to another catalogue as it is: nothing is learnt from the dataset's events (paper §4.3, zero-shot).

        Items are known by their texts alone, and no sequential recommender reads the histories. To train further, see the setting `start`.

        Args:
            source: a model folder, a run's folder, or a Hugging Face repository `hf:owner/name`.
            data: the other catalogue.
            observers: who watches.
            device: where to embed and recommend, as in `fit`.

        Raises:
            CheckpointError: the folder is damaged, or the LLM at hand is not the one it was trained around.
            AssetError: the folder, or the LLM, cannot be had.
            ConfigError: the prompt names an attribute that the catalogue does not have, or this machine has no such device.
            DataError: the dataset is the one that the model was trained on, or made from it.
        """
        start = Start.read(source, data)
        if start.has_learnt_from(data):
            raise DataError(f"The model, or one that it started from, was trained on {data.name!r} itself; give another dataset.")
        context = FitContext(data, start.stored.config, observers=observers, device=choose(device))
        start.stored.check_llm(context.backbone.fingerprint())
        context.start = start
        run_stages(transfer_stages(), context)
        return cls._made(context)

    @classmethod
    def _made(cls, context: FitContext) -> Self:
        provenance = provenance_of(context.data, context.backbone, context.start)
        return cls(context.config, context.data.item_ids, context.system, provenance, costs_of(context))

    def evaluate(self, data: Dataset, split: Literal["valid", "test"] = "test") -> Evaluation:
        """Rank the whole catalogue for every case of a split, under both protocols.

        Args:
            data: the dataset this was trained on.
            split: which cases.

        Raises:
            DataError: the dataset is not the one this was trained on, or items were added since.
        """
        system = self.system
        check_evaluated(data, self.provenance, system.catalogue)
        about = {"model": "Laser", "dataset": data.name, "fingerprint": data.fingerprint, "split": split}
        return evaluate(system.scores, data.cases(split), measures=ListMeasures.of(data), device=system.device, about=about)

    def recommend(
        self,
        histories: Sequence[Sequence[str]],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        only: Choice | None = None,
        without: Collection[str] | None = None,
        states: NDArray[np.float32] | None = None,
    ) -> list[list[Recommendation]]:
        """Recommend the next item after histories of item ids.

        Args:
            histories: item ids in time order, at least one each.
            k: how many items; fewer come back where fewer are left.
            exclude_seen: leave the history's own items out.
            only: items to choose from, say those in stock: ids, or a mask bool [N] in the order of `item_ids`; all when unset.
            without: ids that are never recommended, whatever `only` says.
            states: what `encode_histories` returned for these histories, [B, H]; with it, the language model reads nothing.

        Raises:
            UnknownIdError: an id that the catalogue does not hold, or no longer; the message names the closest known ones.
            DataError: histories that are not lists of strings, an empty one, k that is no whole number from 1, or states of another shape.
        """
        given, system = check_request(histories, k), self.system
        rows = system.catalogue.rows(given)
        barred = barred_items(system.catalogue, only, without)
        return recommend(system.catalogue, system.scores, rows, k, barred, exclude_seen=exclude_seen, states=states)

    def encode_histories(self, histories: Sequence[Sequence[str]], *, collaborative_prefix: bool = True) -> EncodedHistories:
        """Read histories of item ids with the language model, once: `recommend` accepts the states as often as you like.

        A state depends on its history's items and their texts, and on nothing else of the catalogue.

        Args:
            histories: item ids in time order, at least one each.
            collaborative_prefix: False to read the texts with a prefix that knows nothing of the history, as in `Explanation`.

        Raises:
            UnknownIdError: an id that the catalogue does not hold.
            DataError: histories that are not lists of strings, or an empty one.
        """
        given, system = check_request(histories, k=1), self.system
        items, mask = padded(Ragged.from_rows(system.catalogue.rows(given)), system.device)
        with torch.no_grad():
            states, routing = system.embed(items, mask, torch.full_like(mask[:, 0], collaborative_prefix))
            vectors = system.direct(states)
        experts = None if routing is None else routing.chosen.tolist()
        return EncodedHistories(states.float().cpu().numpy(), vectors.float().cpu().numpy(), experts)

    def read_items(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
        """Return items as the catalogue would hold them, id and attributes, without adding them.

        Raises:
            DataError: `add_items` would refuse one for what it is.
        """
        columns = self._system.catalogue.texts.template.columns
        return [{"item_id": item_id, **attributes} for item_id, attributes in check_items(items, columns, "Nothing was changed.").items()]

    def is_cold(self, item_id: str) -> bool:
        """Return whether an item is known from its text alone: no interaction with it was trained on.

        Raises:
            UnknownIdError: the catalogue does not hold it.
        """
        system = self._system
        return not bool(system.collaborative.scored[system.catalogue.find(item_id)])

    def fingerprint(self) -> str:
        """Return a sha256 over what was trained, in hexadecimal; it stays the same while items come and go."""
        return self._system.fingerprint()

    def recommend_texts(
        self,
        texts: Sequence[Sequence[str]],
        k: int = 10,
        *,
        only: Choice | None = None,
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
            DataError: histories that are not lists of strings, an empty one, a blank text, or k that is no whole number from 1.
        """
        histories, system = check_texts(check_request(texts, k)), self.system
        barred = barred_items(system.catalogue, only, without)
        given = system.catalogue.texts.of([item for history in histories for item in history])
        ends = np.cumsum([len(history) for history in histories]).tolist()
        rows = [range(end - len(history), end) for history, end in zip(histories, ends, strict=True)]
        return recommend(system.catalogue, partial(system.scores_after, given), rows, k, barred, exclude_seen=False)

    def explain(
        self,
        histories: Sequence[Sequence[str]],
        item_ids: Sequence[Collection[str]] | None = None,
        k: int = 10,
        *,
        exclude_seen: bool = True,
        only: Choice | None = None,
        without: Collection[str] | None = None,
    ) -> list[list[Explanation]]:
        """Explain scores after histories of item ids: the terms of each, and what each item of the history moves.

        A history of M different items costs M + 3 readings by the language model (M + 2 with `item_ids`), however many are explained.

        Args:
            histories: item ids in time order, at least one each.
            item_ids: for each history the items to explain; when unset those that `recommend` gives with the arguments below.
            k: how many of those.
            exclude_seen: as in `recommend`; so are `only` and `without`.
            only: ids to choose from.
            without: ids that are never recommended.

        Raises:
            UnknownIdError: an id that the catalogue does not hold, or no longer; the message names the closest known ones.
            DataError: an empty history, k below 1, items beside `only` or `without`, or too many items in histories times items to explain.
        """
        given, system = check_request(histories, k), self.system
        asked = check_explained(given, item_ids, min(k, len(system.catalogue)), narrowed=only is not None or without is not None)
        return explain(system, given, asked, k, barred_items(system.catalogue, only, without), exclude_seen=exclude_seen)

    def similar_items(self, item_id: str, k: int = 10) -> list[Recommendation]:
        """Return the items most similar to one of the catalogue, by the directions that items are compared by; scores are cosines.

        Args:
            item_id: the item; it is not among its similar ones.
            k: how many items; fewer come back where fewer are left.

        Raises:
            UnknownIdError: the catalogue does not hold it.
            DataError: k is no whole number from 1.
        """
        check_request([[item_id]], k)
        return similar(self.system.catalogue, item_id, k)

    def add_items(self, items: Sequence[Mapping[str, Any]] | ArrowTable) -> None:
        """Make new items recommendable at once, from their text alone; scores of the others stay as they are.

        Args:
            items: for each its `item_id` and attributes, or a Polars, pandas or PyArrow table of them, cleaned as `laserrec data prepare`
                does; attributes new to the catalogue are not read.

        Raises:
            DataError: an item has no id, no text, or an id that is in use; then none is added.
        """
        self._change(
            lambda system: system.with_items(
                check_items(items, system.catalogue.texts.template.columns, "No item was added.", system.catalogue.index)
            )
        )

    def expect_changes(self) -> None:
        """Prepare for changes of items, so that the first one is as quick as the later ones."""
        self._change(lambda system: system.expecting_changes())

    def update_items(self, items: Sequence[Mapping[str, Any]] | ArrowTable) -> None:
        """Replace the attributes of items; only texts that change are encoded again.

        Args:
            items: for each the `item_id` of a known item and all of its new attributes, or a table of them.

        Raises:
            UnknownIdError: the catalogue does not hold an id; then no item is changed.
            DataError: an item has no id or no text, or is given twice; then no item is changed.
        """
        self._change(
            lambda system: system.with_changes(check_items(items, system.catalogue.texts.template.columns, "No item was changed."))
        )

    def remove_items(self, item_ids: Collection[str]) -> None:
        """Take items out of the catalogue: they are unknown from then on.

        Scores of the others stay as they are, but for cold items whose collaborative score was made from a removed one's.

        Args:
            item_ids: known ids.

        Raises:
            UnknownIdError: the catalogue does not hold an id; then no item is removed.
            DataError: not a collection of strings.
        """
        gone = list(dict.fromkeys(check_ids("item_ids", item_ids)))
        self._change(lambda system: system.without_items(gone))

    def title(self, item_id: str) -> str:
        """Return an item's title, or its id where it has none.

        Raises:
            UnknownIdError: the catalogue does not hold it.
        """
        catalogue = self._system.catalogue
        return catalogue.title(catalogue.find(item_id))

    def item_vectors(self) -> NDArray[np.float32]:
        """Return the unit vectors by which items are compared with a history, [N, H] in the order of `item_ids`."""
        catalogue = self._system.catalogue
        return np.array(catalogue.unit_vectors[~catalogue.removed].cpu().numpy(), np.float32)

    def item_map(self, limit: int = 4000, *, without: Collection[str] | None = None) -> ItemMap:
        """Lay the catalogue out in two dimensions: the first two principal components of the item vectors.

        Args:
            limit: how many items the map holds at most; of a larger catalogue, evenly spread ones.
            without: ids that it does not hold, say hidden items.

        Raises:
            UnknownIdError: the catalogue does not hold an id.
            DataError: the limit is no whole number from 1, or `without` is no collection of strings.
        """
        return item_map(self.system.catalogue, limit, without)

    def experts(self, histories: Sequence[Sequence[str]]) -> list[int] | None:
        """Return which of the M-Former's query experts reads each history of item ids; None where it has none."""
        given, system = check_request(histories, k=1), self.system
        chosen = system.experts(*padded(Ragged.from_rows(system.catalogue.rows(given)), system.device))
        return None if chosen is None else chosen.tolist()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._system.device

    @property
    def item_ids(self) -> list[str]:
        """The catalogue's ids, in index order."""
        return list(self._system.catalogue.index)

    @property
    def catalogue(self) -> list[dict[str, str]]:
        """Every item's id and attributes, in the order of `item_ids`."""
        catalogue = self._system.catalogue
        return [{"item_id": item_id, **catalogue.texts.items[index]} for item_id, index in catalogue.index.items()]

    @property
    def cold_start_bonus(self) -> float:
        """Score bonus of items without interactions, in standard deviations; it may be set, and `save` keeps it."""
        bonus = self._system.catalogue.bonus
        return 0.0 if bonus is None else float(bonus)

    @cold_start_bonus.setter
    def cold_start_bonus(self, deviations: float) -> None:
        bonus = check_bonus(deviations)
        self._change(lambda system: system.with_bonus(bonus))

    @property
    def trained_parameters(self) -> int:
        """Parameters of Laser that were trained; the LLM and the sequential recommender are frozen."""
        return sum(p.numel() for p in self._system.model.parameters() if p.requires_grad)

    def save(self, folder: str | Path) -> None:
        """Write a model folder: safetensors and JSON, everything but the LLM, loadable without the training data."""
        catalogue, trained = self._system.catalogue, self._system.model.state_dict()
        items = [{"item_id": name, **item} if name else {} for name, item in zip(catalogue.ids, catalogue.texts.items, strict=True)]
        weights, view = trained | catalogue.tables(), catalogue.collaborative
        ModelFolder(self.config, items, view, weights, self.provenance, self.costs, catalogue.removed).write(folder)

    @classmethod
    def load(cls, source: str | Path, *, device: str | torch.device | None = None, text_memory: float | None = None) -> Self:
        """Load a model folder, the model of a run, or a repository on the Hugging Face hub that `push_to_hub` made.

        Args:
            source: the folder that `save` or `laserrec train` wrote, or `hf:owner/name`.
            device: where it will compute, whatever it was trained on; as in `fit`.
            text_memory: GiB of memory for encoded texts; when unset what `runtime.text_memory` said in training, else half of what is free.

        Raises:
            ConfigError: this machine has no such device.
            CheckpointError: the folder is damaged, the run is not finished, or the LLM at hand is not the one it was trained around.
            AssetError: the folder, or the LLM, cannot be had.
        """
        stored = ModelFolder.read(source)
        config, backbone = stored.config, load_backbone(stored.config, choose(device)).for_reading()
        stored.check_llm(backbone.fingerprint())
        items = [{key: value for key, value in item.items() if key != "item_id"} for item in stored.catalogue]
        room = text_memory or config.runtime.text_memory
        texts = ItemTexts(backbone, config.prompt, items, config.virtual.read_out, config.llm, stored.columns, room)
        texts.reuse(texts_folder())
        system = build_laser(config, backbone, texts, stored.collaborative, stored.idf(backbone.vocabulary))
        stored.restore(system.model)
        item_ids = [item.get("item_id", "") for item in stored.catalogue]
        return cls(config, item_ids, system, stored.provenance, stored.costs, stored.removed)

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
            self.save(model := Path(folder) / "model")
            return upload(model, repository, private=private, token=token)

    def _change(self, change: Callable[[LaserSystem], LaserSystem]) -> None:
        self._process.require()  # before the lock: in a fork the thread that had it may be gone
        with self._changing:
            self._system = change(self._system)

    @property
    def system(self) -> LaserSystem:
        """The present snapshot, for computing with; a fork of the process that loaded the model is refused."""
        self._process.require()
        return self._system
