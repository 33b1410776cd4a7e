"""A language model in bfloat16 on a processor that is slow at it: computed in float32, kept and known as what it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import small_shop
import tiny
import torch

from laserrec import Laser
from laserrec.laser.prefix_first import PrefixFirst
from laserrec.laser.text_first import TextFirst
from laserrec.llm.backbone import Backbone
from laserrec.text_cache.cache import TextCache
from laserrec.text_cache.disk import DiskStore

LINES = [[5, 6, 7], [8, 9], [10, 11, 12, 13]]
HISTORIES = [[0, 1], [2], [1, 2, 0]]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], Backbone]:
    """Load one model in bfloat16 on a fast processor or on a slow one."""
    folder = small_shop.write_llm(tmp_path / "llm")

    def loaded(fast: bool) -> Backbone:
        monkeypatch.setattr("laserrec.llm.backbone.fast_bfloat16", lambda: fast)
        return Backbone.load(folder, dtype="bfloat16")

    return loaded


def virtual() -> torch.Tensor:
    return torch.randn(len(HISTORIES), 3, tiny.WIDTH, generator=torch.Generator().manual_seed(1))


def test_the_same_model_in_wider_numbers(load: Callable[[bool], Backbone]) -> None:
    fast, slow = load(True), load(False)
    assert (fast.dtype, fast.storage_dtype) == (torch.bfloat16, torch.bfloat16)
    assert (slow.dtype, slow.storage_dtype) == (torch.float32, torch.bfloat16)
    assert slow.fingerprint() == fast.fingerprint()
    theirs = fast.model.state_dict()
    assert all(torch.equal(weight, theirs[name].float()) for name, weight in slow.model.state_dict().items())


def test_float32_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laserrec.llm.backbone.fast_bfloat16", lambda: False)
    llm = Backbone.load(small_shop.write_llm(tmp_path), dtype="float32")
    assert (llm.dtype, llm.storage_dtype) == (torch.float32, torch.float32)


def test_prompts_are_read_as_in_float32(load: Callable[[bool], Backbone]) -> None:
    slow, exact = load(False), load(True)
    exact.model.float()
    wide, plain = (
        PrefixFirst(llm, [], lambda item, _: LINES[item], "suffix").read(*tiny.batch(HISTORIES), virtual()) for llm in (slow, exact)
    )
    assert torch.equal(wide, plain)


def test_texts_are_kept_in_bfloat16_and_shared_with_fast_processors(load: Callable[[bool], Backbone], tmp_path: Path) -> None:
    slow, fast = load(False), load(True)
    written = TextCache(slow, [], LINES)
    written.open(DiskStore.under(tmp_path / "texts"), writes=True)
    written.build()
    found = TextCache(fast, [], LINES)
    found.open(DiskStore.under(tmp_path / "texts"), writes=False)
    assert written.bytes == found.bytes
    assert found.missing == 0
    wide, narrow = (TextFirst(cache, "suffix").read(*tiny.batch(HISTORIES), virtual()) for cache in (written, found))
    assert wide.dtype == torch.float32
    assert torch.cosine_similarity(wide, narrow).min() > 0.999  # eight significant bits through two layers


def test_a_gradient_reaches_the_virtual_tokens(load: Callable[[bool], Backbone]) -> None:
    found = []
    for fast in (False, True):
        tokens = virtual().requires_grad_()
        states = TextFirst(TextCache(load(fast), [], LINES), "suffix").read(*tiny.batch(HISTORIES), tokens)
        (states * torch.arange(tiny.WIDTH)).sum().backward()
        assert tokens.grad is not None
        found.append(tokens.grad.flatten())
    # Eight significant bits, through two layers and back.
    assert torch.cosine_similarity(*found, dim=0) > 0.99


def test_a_model_trained_on_one_loads_on_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "cache"))
    folder = small_shop.write_llm(tmp_path / "llm")
    once = ["llm.dtype=bfloat16", "fit_collaborative.epochs=1", "stage1.epochs=1", "stage2.epochs=0", "collaborative.refits=[]"]
    monkeypatch.setattr("laserrec.llm.backbone.fast_bfloat16", lambda: True)
    Laser.fit(small_shop.dataset(), small_shop.config(folder).override(once)).save(tmp_path / "model")
    rows = []
    for fast in (True, False):
        monkeypatch.setattr("laserrec.llm.backbone.fast_bfloat16", lambda fast=fast: fast)
        rows.append({found.item_id: found.score for found in Laser.load(tmp_path / "model").recommend([["tent", "stove"]], k=12)[0]})
    assert rows[0].keys() == rows[1].keys()
    assert all(abs(rows[0][item] - rows[1][item]) < 0.1 for item in rows[0])
