"""What a stage is predicted to take: formulas by hand; no speed is asserted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import small_shop
import torch
from torch import Tensor

from laserrec.config import FitConfig, RuntimeConfig
from laserrec.data.dataset import Cases
from laserrec.data.ragged import Ragged
from laserrec.laser.experts import Routing
from laserrec.laser.system import LaserSystem
from laserrec.sequential.sasrec import SASRec
from laserrec.system.devices import CPU
from laserrec.text_cache.store import ZeroStore
from laserrec.training import estimates as module
from laserrec.training import fusing, laser_stage
from laserrec.training.context import FitContext
from laserrec.training.estimates import ON_GPU, Estimate, enough, estimate_fit, some
from laserrec.training.fusing import FuseStage
from laserrec.training.laser_stage import LaserStage, _finding_bytes, reading_again
from laserrec.training.sequential_stage import collaborative_stage
from laserrec.training.sequential_task import CollaborativeTask
from laserrec.training.text_stages import EncodeStage


def of_zeros(context: FitContext) -> FitContext:
    """Open texts whose encodings are all zeros, as an estimate does."""
    assert context.texts_missing
    context.texts.open(ZeroStore, writes=False)
    return context


def two_seconds(work: Callable[[], object]) -> float:
    work()
    return 2.0


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FitContext:
    """A run of a small shop whose texts are zeros."""
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "cache"))
    config = small_shop.config(small_shop.write_llm(tmp_path / "llm"), collaborative={"refits": []})
    return of_zeros(FitContext(small_shop.dataset(), config, device=CPU))


def test_a_gpu_is_given_more_to_do() -> None:
    assert enough(64, torch.device("cpu")) == 64
    assert enough(64, torch.device("cuda:1")) == 64 * ON_GPU > 1000  # more than the scalars are fitted on


def test_some_rows_are_always_the_same_ones() -> None:
    assert some(3, 5).tolist() == [0, 1, 2]
    assert some(100, 7).tolist() == some(100, 7).tolist() == sorted(set(some(100, 7).tolist()))


def test_a_fit_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "seconds_of", two_seconds)
    torch.manual_seed(0)
    model = SASRec(catalogue_size=12, width=8, blocks=1, heads=2, max_history=5, dropout=0.0)
    histories = Ragged.from_rows([[row % 12, (row + 1) % 12, (row + 2) % 12] for row in range(40)])
    cases = Cases(np.arange(10), Ragged.from_rows([[row] for row in range(10)]), np.arange(10))
    task = CollaborativeTask(model, histories, cases, hold_out=0)
    found = estimate_fit("x", task, FitConfig(epochs=3, batch_size=16), rows=8, cases=5, micro_batch="sequential_micro_batch")
    numbers = sum(weight.numel() for weight in model.parameters())
    kept = 4 * sum(tensor.numel() for tensor in model.state_dict().values())
    checkpoint = 2 * (kept + 4 * numbers)
    # Two seconds for 8 of 40 rows and for 5 of 10 cases; a checkpoint at 500 MB/s.
    assert found.once == pytest.approx(4 + checkpoint / 500e6)
    assert found.epoch == pytest.approx(10 + found.once)
    assert (found.epochs, found.batch, found.run) == (3, 16, checkpoint)
    assert found.memory == 3 * 4 * numbers + kept  # moments and gradients, and the best weights
    assert found.at_most == pytest.approx(found.once + 3 * found.epoch)


def test_a_micro_batch_bounds_what_is_held() -> None:
    found = Estimate("stage1", memory=1000, between_steps=300, batch=64, row=10, micro_batch="laser_micro_batch")
    assert found.peak(RuntimeConfig()) == 1000 + 640
    assert found.peak(RuntimeConfig(laser_micro_batch=32)) == 1000 + 320
    assert found.peak(RuntimeConfig(laser_micro_batch=1, sequential_micro_batch=64)) == 1000 + 300
    assert found.rows(RuntimeConfig(laser_micro_batch=100)) == 64


def test_the_memory_of_finding_by_hand() -> None:
    # Three times 230.4 MB while directions are made: more than those, 134 MB of cosines and three tables of 80 MB.
    assert _finding_bytes(100_000, 576) == 3 * 230_400_000
    assert _finding_bytes(1_000_000, 64) == 256_000_000 + 4 * 2**25 + 3 * 800_000_000
    assert _finding_bytes(10, 16) == 640 + 400 + 24_000


def test_texts_are_tried_in_part_and_stand_for_all(context: FitContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laserrec.training.text_stages.seconds_of", two_seconds)
    monkeypatch.setattr("laserrec.training.text_stages.TOKENS", 10**6)
    found = EncodeStage().estimate(context)
    assert (found.once, found.cache) == (pytest.approx(2.0), context.texts.bytes)
    monkeypatch.setattr("laserrec.training.text_stages.TOKENS", 40)
    assert EncodeStage().estimate(context).once > 4  # at most a half of some two hundred tokens is tried


def test_what_memory_does_not_hold_is_read_again(context: FitContext, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reading_again(context, context.config.stage1) == (0, 0)
    whole = context.texts.unlimited_memory
    half = context.config.override([f"runtime.text_memory={whole / 2 / 2**30}"])
    limited = of_zeros(FitContext(context.data, half, device=CPU))
    items, history = reading_again(limited, half.stage1.model_copy(update={"batch_size": 100}))
    size = limited.texts.bytes
    # Every item is read in order; of the eleven that histories name, each once in the one batch, the half that is not held.
    asked = sum(limited.texts.caches[0].count_tokens(torch.arange(11)[:, None], torch.ones(11, 1, dtype=torch.bool)).tolist())
    share = asked / limited.texts.caches[0].tokens
    assert items == pytest.approx(size / 1.5e9)
    assert history * 11 == pytest.approx(size * share * 0.5 / 1.5e9, rel=0.02)
    limited.available = limited.texts.memory  # no room for the system's cache
    assert reading_again(limited, half.stage1)[0] == pytest.approx(size * (1 / 1.5e9 + 1 / 300e6))


def test_choosing_and_evaluating_read_each_history_once(context: FitContext, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, embed = list[int](), LaserSystem.embed

    def counted(laser: LaserSystem, items: Tensor, mask: Tensor) -> tuple[Tensor, Routing | None]:
        rows.append(len(items))
        return embed(laser, items, mask)

    def thousand_a_history(work: Callable[[], object]) -> float:
        rows.clear()
        work()
        return 1000.0 * sum(rows)

    monkeypatch.setattr(LaserSystem, "embed", counted)
    monkeypatch.setattr(fusing, "seconds_of", thousand_a_history)
    monkeypatch.setattr(laser_stage, "seconds_of", thousand_a_history)
    for stage in (collaborative_stage(context.config), EncodeStage()):
        stage.estimate(context)
    learnt, valid = int((context.histories.lengths > 1).sum()), len(context.valid)
    assert LaserStage("stage1").estimate(context).once // 100 == 10 * learnt  # the scalars are fitted on them
    assert FuseStage().estimate(context).once // 100 == 10 * valid  # what cold items get is fitted on them


def test_an_estimate_leaves_the_score_as_it_was(context: FitContext) -> None:
    for stage in (collaborative_stage(context.config), EncodeStage(), LaserStage("stage1")):
        stage.estimate(context)
    before = {name: value.clone() for name, value in context.system.model.scorer.state_dict().items()}
    FuseStage().estimate(context)
    assert all(torch.equal(value, before[name]) for name, value in context.system.model.scorer.state_dict().items())
