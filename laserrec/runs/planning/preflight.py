"""The preflight: from data, settings and machine to a plan, by doing some of the work.

The frozen language model is loaded, some texts are encoded, and every fit of the run makes a few steps with weights that are thrown
away. Nothing of it reaches the run: training seeds its own generators.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from laserrec.baselines.popularity import Popularity
from laserrec.baselines.seen import STRENGTHS, SeenPenalty
from laserrec.config import FitConfig, LaserConfig
from laserrec.data.dataset import Cases, Dataset
from laserrec.evaluation.metrics import evaluate
from laserrec.evaluation.ranking import rows_at_once
from laserrec.laser.collaborative_view import CollaborativeView
from laserrec.laser.system import LaserSystem, build_laser
from laserrec.laser.transfer import Start
from laserrec.layers.histories import padded
from laserrec.layers.neighbours import found_at_once
from laserrec.llm.loading import load_backbone
from laserrec.llm.mean_pooling import mean_states
from laserrec.runs.planning.id_based import IdTrials, Settings
from laserrec.runs.planning.neighbours import TABLE_BYTES, NeighbourCost, finding_memory, finding_seconds, try_neighbours
from laserrec.runs.planning.plan import REST, Disk, Memory, Phase, Plan
from laserrec.runs.planning.probe import FitCost, enough, sampled, seconds_of, some, try_fit
from laserrec.runs.planning.texts import TextCost, rereading, try_texts
from laserrec.system.cache import scratch_folder, texts_folder
from laserrec.system.devices import CPU
from laserrec.system.resources import available_memory, folder_bytes, free_bytes, peak_memory, resident_memory
from laserrec.text_cache.blocks import SHARD_BYTES
from laserrec.text_cache.store import ZeroStore
from laserrec.training.calibration import CASES as CALIBRATED
from laserrec.training.calibration import calibrate, evidence_bytes
from laserrec.training.cold_start import rounds
from laserrec.training.fit import refit_settings, validation_cases
from laserrec.training.language import dataset_texts
from laserrec.training.laser_task import LaserTask
from laserrec.training.sequential_task import CollaborativeTask
from laserrec.training.text_vectors import PHASE as VECTORS
from laserrec.training.text_vectors import item_texts, vectors_file, vectors_source

ROWS, CASES, ITEMS = 64, 64, 128
"""Of a probe in text_first; prefix_first reads whole prompts, so an eighth of them tells as much."""
SIMPLE_CASES = 512
"""Of a probe of a baseline without training."""
RANK_BYTES = 64
"""Of a row of the ranks' table, about."""


@dataclass(frozen=True)
class Rivals:
    """What is trained and evaluated beside Laser in one run.

    Attributes:
        fits: id-based models by name; one that Laser's refit would train again is trained a single time.
        untrained: whether the baselines without training are evaluated too, on validation for their penalty and on test, and the ensemble
            of what is trained anyway.
    """

    fits: Mapping[str, Settings]
    untrained: bool


def preflight(data: Dataset, config: LaserConfig, folder: Path, rivals: Rivals | None = None, device: torch.device = CPU) -> Plan:
    """Predict what a run takes, and choose what the settings leave to the machine.

    Args:
        data: the dataset.
        config: the settings.
        folder: where the run's folder will be; nothing is written there.
        rivals: what else the run trains.
        device: where the run will be computed.

    Raises:
        AssetError: the language model cannot be had.
        LaserrecError: whatever else would stop the run at its beginning: settings that do not fit the model, data without validation.
    """
    began = time.perf_counter()
    texts_folder().mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]), scratch_folder("plan") as kept:
        plan = _Preflight(data, config, kept, rivals or Rivals({}, untrained=False), device).plan(folder)
    gc.collect()
    return replace(plan, seconds=time.perf_counter() - began)


def micro_batch(batch: int, row: int, available: int) -> int | None:
    """Return how many rows a forward pass may have: the largest halving of the batch whose activations take a quarter of the memory.

    Args:
        batch: rows of an optimiser step.
        row: bytes of a row's activations.
        available: bytes of memory.

    Returns:
        None where the whole batch fits, so that results depend on the machine only where they must.
    """
    size = batch
    while size > 1 and size * row > available // 4:
        size //= 2
    return None if size == batch else size


class _Twice(NamedTuple):
    """Seconds of something at first, and again once the language model has read the histories."""

    first: float
    again: float


@dataclass(frozen=True)
class _Laser:
    """What Laser costs beside its fits' rows, in seconds, and the memory of the process without encoded texts."""

    fit: FitCost
    item: float
    finding: float
    case: _Twice
    calibration: _Twice
    process: int
    weights: int


class _Preflight:
    """One preflight under way."""

    def __init__(self, data: Dataset, config: LaserConfig, kept: Path, rivals: Rivals, device: torch.device) -> None:
        self.data, self.config, self.kept, self.rivals, self.device = data, config, kept, rivals, device
        self.available = available_memory(device) + resident_memory(device)
        began = time.perf_counter()
        if config.start is not None:  # what does not fit is refused before anything is trained
            Start.read(config.start, data).require_alike(config)
        self.backbone = load_backbone(config, device)
        self.texts = dataset_texts(data, config, self.backbone)
        self.texts.reuse(texts_folder())
        self.texts_missing = self.texts.missing_bytes
        self.texts.open(ZeroStore, writes=False)
        self.loading = time.perf_counter() - began
        self.items, self.share = len(data.item_ids), 1 if config.prompt.order == "text_first" else 8
        self.popularity = np.bincount(data.training_histories().values, minlength=self.items)
        self.id_based = IdTrials(
            data, config, rivals.fits, text_width=self.backbone.width, kept=kept, available=self.available, device=device
        )

    def plan(self, folder: Path) -> Plan:
        """Try everything, and put the plan together."""
        config = self.config
        collaborative = self.id_based.task("collaborative")
        identity = self.id_based.cost("collaborative", collaborative)
        texts, laser = (
            try_texts(self.texts, config, self.kept, self.available, missing=bool(self.texts_missing)),
            self._try_laser(collaborative),
        )
        near = self._try_neighbours(collaborative)
        chosen = self._choose(identity, laser.fit)
        settled = config.override([f"{key}={value}" for key, value in chosen.items()])
        memory = self._memory(settled, identity, laser, texts, near)
        laser = self._read_again(settled.stage1, laser, texts, memory)
        before = [*self._vectors(), *self.id_based.phases(), Phase("texts", self.texts_missing * texts.encode)]
        return Plan(
            config=settled,
            chosen=chosen,
            phases=[*before, *self._stages(laser, texts), Phase(REST, self._rest(laser, identity, near))],
            memory=memory,
            disk=self._disk(folder, identity, laser),
            at_once=self._at_once(settled),
            threads=torch.get_num_threads(),
            seconds=0.0,
        )

    @property
    def _vectors_needed(self) -> bool:
        return self.rivals.untrained or any(model.reads_texts for model, _ in self.id_based.fits.values())

    @cached_property
    def _vectors_missing(self) -> bool:
        if not self._vectors_needed:
            return False
        source = vectors_source(item_texts(self.data, self.config.prompt), self.config.prompt, self.backbone)
        return not vectors_file(source).is_file()

    def _vectors(self) -> list[Phase]:
        """Return the phase of reading every text as one vector, if anything of the run needs them and no run has made them."""
        if not self._vectors_missing:
            return []
        chosen = [self.texts.template.item_text(self.texts.items[item]) for item in some(self.items, enough(ITEMS, self.device))]
        limit = self.config.prompt.max_item_tokens
        return [Phase(VECTORS, seconds_of(partial(mean_states, self.backbone, chosen, max_tokens=limit)) / len(chosen) * self.items)]

    def _try_laser(self, collaborative: CollaborativeTask) -> _Laser:
        """Try Laser around an id-based model, with encoded texts of zeros."""
        config, data = self.config, self.data
        collaborative.model.fix_items()
        system = build_laser(config, self.backbone, self.texts, CollaborativeView(collaborative.model, collaborative.seen()))
        system.model.item_states.normal_()
        cases, positions = validation_cases(data, config.stage1, config.seed), config.collaborative.hold_out
        task = LaserTask(
            system, data.training_histories(), cases, balance=config.score.balance, positions=positions, refresh=False, seed=config.seed
        )
        process = resident_memory(self.device)
        row = 1 + config.prompt.max_history * self.texts.unlimited_memory // max(self.items, 1)
        room = max(1, self.available // 16 // row)
        rows = min(config.stage1.batch_size, ROWS // self.share, room)
        small = sampled(task, rows=rows, cases=min(enough(CASES, self.device) // self.share, room))
        items = torch.from_numpy(some(self.items, min(enough(ITEMS, self.device) // self.share, 8 * room)))
        self.texts.recall(torch.cat([items, _items_read(small, config.prompt.max_history)]))
        return _Laser(
            fit=try_fit(small, config.stage1, self.kept / "stage1", rows=rows),
            item=seconds_of(partial(system.embed_items, items.to(self.device))) / len(items),
            finding=finding_seconds(system.model.item_states) if config.score.nearest else 0.0,
            case=self._evaluate(system, small.valid),
            calibration=self._calibrate(system, len(task), small.valid),
            process=process,
            weights=sum(tensor.nbytes for tensor in system.model.state_dict().values()),
        )

    def _try_neighbours(self, collaborative: CollaborativeTask) -> NeighbourCost:
        """Try counting neighbours and blending them with as many models as are fused, where the run does."""
        config = self.config
        blended = len(refit_settings(config)) if config.collaborative.neighbours else 0
        if not blended and not self.rivals.untrained:
            return NeighbourCost()
        cases = validation_cases(self.data, config.stage2, config.seed)
        return try_neighbours(self.data.training_histories(), self.items, [collaborative.model] * blended, cases)

    def _calibrate(self, system: LaserSystem, rows: int, cases: Cases) -> _Twice:
        """Return the seconds of fitting the score's scalars."""
        if not self.config.score.calibrate or not rows:
            return _Twice(0.0, 0.0)
        scorer, targets = system.model.scorer, torch.from_numpy(cases.targets).to(self.device)
        start = {name: value.clone() for name, value in scorer.state_dict().items()}

        def work() -> None:
            scorer.load_state_dict(start)
            calibrate(system, *padded(cases.histories, self.device), targets)

        return _twice(system, work, work, min(rows, CALIBRATED) / len(cases))

    def _evaluate(self, system: LaserSystem, cases: Cases) -> _Twice:
        """Return the seconds of evaluating a case, at first with the recommended lists, as at a run's end."""
        score = system.prepared().scores
        whole = partial(evaluate, score, cases, popularity=self.popularity, device=self.device)
        return _twice(system, whole, partial(evaluate, score, cases, device=self.device), 1 / len(cases))

    def _read_again(self, stage: FitConfig, laser: _Laser, texts: TextCost, memory: Memory) -> _Laser:
        """Return what Laser costs with the reading of texts that memory does not hold."""
        histories = self.data.training_histories().before_last(self.config.prompt.max_history)
        spare = available_memory() if self.device.type == "cuda" else max(0, memory.available - memory.peak)
        rows = stage.micro_batch_size or stage.batch_size
        again = rereading(self.texts, histories, texts, rows=rows, spare=spare, folder=self.kept)
        more, fitted = again.history, min(len(histories), CALIBRATED) if self.config.score.calibrate else 0
        return replace(
            laser,
            fit=replace(laser.fit, row=laser.fit.row + more, case=laser.fit.case + more),
            item=laser.item + again.items / self.items,
            case=laser.case._replace(first=laser.case.first + more),
            calibration=laser.calibration._replace(first=laser.calibration.first + fitted * more),
        )

    def _stages(self, laser: _Laser, texts: TextCost) -> list[Phase]:
        config, rows = self.config, int((self.data.training_histories().lengths > 1).sum())
        refresh, cases = laser.item * self.items + laser.finding, len(self.data.cases("valid"))
        found = []
        for name, stage, each in (("stage1", config.stage1, refresh), ("stage2", config.stage2, 0.0)):
            if name == "stage2" and not stage.epochs:
                continue
            phase = laser.fit.phase(name, stage, rows, min(cases, stage.validation_cases or cases))
            once = 0.0
            if name == "stage1":
                # Texts that memory does not hold are read for the first time by an item matrix. One is computed even if nothing is trained.
                once = self.texts.held_bytes * texts.read + laser.calibration.first + (0.0 if stage.epochs else refresh)
            found.append(replace(phase, once=phase.once + once, epoch=phase.epoch + each))
        return found

    def _rest(self, laser: _Laser, identity: FitCost, near: NeighbourCost) -> float:
        """Return the seconds of everything that is neither a fit nor encoding."""
        valid, test = (len(self.data.cases(part)) for part in ("valid", "test"))
        took = self.loading + laser.fit.save + laser.case.first * (valid + test)
        if refit_settings(self.config):
            took += self._fusing(laser, near)
        if self.config.score.calibrate and self.config.score.new_items is None:
            took += rounds(self.items) * min(valid, CALIBRATED) * laser.case.again
        took += len(self.rivals.fits) * test * identity.case
        return took + (self._untrained(valid, test, identity, near) if self.rivals.untrained else 0.0)

    def _fusing(self, laser: _Laser, near: NeighbourCost) -> float:
        """Return the seconds of blending neighbours into all refits and into each kind of them, and of choosing what is fused."""
        config, valid, kinds = self.config, len(self.data.cases("valid")), len(set(self.config.collaborative.refits))
        ensembles = 1 + (kinds if kinds > 1 else 0)
        cases = min(valid, config.stage2.validation_cases or valid)
        counting = near.counting if config.collaborative.neighbours else 0.0
        each = near.blending + laser.calibration.again + cases * laser.case.again
        return counting + cases * laser.case.first + ensembles * each

    def _untrained(self, valid: int, test: int, identity: FitCost, near: NeighbourCost) -> float:
        """Return the seconds of the three baselines without training, and of the ensemble."""
        cases = self.data.cases("valid")
        cases = cases.take(some(len(cases), enough(SIMPLE_CASES, self.device)))
        simple = SeenPenalty(Popularity.fit(self.data.training_histories(), self.items), 1.0)
        case = seconds_of(partial(evaluate, simple.scores, cases, popularity=self.popularity, device=self.device)) / len(cases)
        took = self.loading + 2 * case * (len(STRENGTHS) * valid + test) + near.counting + case * test
        if refits := len(refit_settings(self.config)):
            took += (near.counting if self.config.collaborative.neighbours else 0.0) + near.blending + refits * test * identity.case
        return took

    def _choose(self, identity: FitCost, laser: FitCost) -> dict[str, int]:
        """Choose sizes that the settings leave open, where memory asks for it."""
        found = {}
        for name, cost in (("fit_collaborative", identity), ("stage1", laser), ("stage2", laser)):
            fit: FitConfig = getattr(self.config, name)
            size = micro_batch(fit.batch_size, cost.activations, self.available) if fit.micro_batch_size is None else None
            if size is not None:
                found[f"{name}.micro_batch_size"] = size
        return found

    def _at_once(self, config: LaserConfig) -> dict[str, int]:
        """Return what is worked on at a time: the micro-batches, and parts that follow from the catalogue and bounds of their own."""
        fits = {"the id-based fits": config.fit_collaborative, "stage1": config.stage1, "stage2": config.stage2}
        sizes = {f"rows of {name}": fit.micro_batch_size or fit.batch_size for name, fit in fits.items() if fit.epochs}
        sizes["histories scored"] = rows_at_once(self.items)
        if config.score.nearest:
            sizes["items given neighbours"] = min(self.items, found_at_once(self.items))
        return sizes

    def _memory(self, config: LaserConfig, identity: FitCost, laser: _Laser, texts: TextCost, near: NeighbourCost) -> Memory:
        fitted = evidence_bytes(self.items, int(self.data.training_histories().lengths.max(initial=1))) if config.score.calibrate else 0
        scores = max(fitted, 16 * rows_at_once(self.items) * self.items)
        stages = [(config.stage1, laser.fit), (config.stage2, laser.fit)]
        fits = [*stages, (config.fit_collaborative, identity)]
        rows = len(self.data.user_ids)
        steps = [cost.kept + cost.activations * min(fit.micro_batch_size or fit.batch_size, rows) for fit, cost in fits]
        finding = finding_memory(self.items, self.backbone.width) if config.score.nearest else 0
        # The best weights are there twice while better ones are found.
        training = max(*steps, laser.fit.kept + max(scores, finding, laser.weights), near.memory)
        # A shard is encoded in memory before it is written; rounding it to int8 takes it in float32 twice as well.
        copies = 10 if config.llm.cache == "int8" else 1
        writing = min(SHARD_BYTES, self.texts_missing) * copies + texts.memory
        peak = max(laser.process + max(self.texts.memory + training, writing), peak_memory(self.device))
        return Memory(peak, laser.process, self.texts.memory, self.texts.unlimited_memory, training, self.available)

    def _disk(self, folder: Path, identity: FitCost, laser: _Laser) -> Disk:
        data, config = self.data, self.config
        ranks = RANK_BYTES * (len(data.cases("valid")) + len(data.cases("test")))
        # A checkpoint holds the weights four times: as they are, at their best, and Adam's two moments.
        recommenders = identity.checkpoint // 4 * (1 + len(refit_settings(config)))
        neighbours = TABLE_BYTES * self.items if config.collaborative.neighbours and refit_settings(config) else 0
        model = laser.weights + recommenders + neighbours + int(data.items.estimated_size())
        vectors = 4 * self.items * self.backbone.width if self._vectors_needed else 0
        run = 2 * laser.fit.checkpoint + self.id_based.checkpoints + model + ranks
        texts = texts_folder()
        return Disk(
            texts=self.texts_missing + vectors * self._vectors_missing,
            texts_all=self.texts.bytes + vectors,
            texts_before=folder_bytes(texts),
            texts_free=free_bytes(texts),
            run=run,
            run_free=free_bytes(folder),
        )


def _twice(system: LaserSystem, first: Callable[[], object], again: Callable[[], object], share: float) -> _Twice:
    """Return a share of the seconds that something takes with histories that nobody has read, and then with the same ones."""
    with system.reading_once():
        return _Twice(share * seconds_of(first), share * seconds_of(again))


def _items_read(task: LaserTask, limit: int) -> Tensor:
    """Return the items whose texts a task reads, int64."""
    # A target stands among the last `positions`, anywhere when there are none, and what is read stands before it.
    training = task.histories.tails(limit + task.positions) if task.positions else task.histories
    return torch.from_numpy(np.unique(np.concatenate([training.values, task.valid.histories.tails(limit).values])))
