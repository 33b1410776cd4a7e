"""Encoded texts: in memory or on disk, with room for all or for few, the same numbers."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import tiny
import torch
from torch import Tensor

from laserrec.llm.backbone import Backbone
from laserrec.llm.buckets import CachedContext
from laserrec.text_cache import blocks
from laserrec.text_cache.blocks import SharedBlocks
from laserrec.text_cache.cache import TextCache
from laserrec.text_cache.disk import DiskStore
from laserrec.text_cache.encoder import Numbers, cache_bytes, pack, unpack

LLM = tiny.backbone()
INSTRUCTION = LLM.tokenize("Buys:\n")
LINES = LLM.tokenize_all([f">> {title}{' new' * (place % 3)}\n" for place, title in enumerate(tiny.TITLES * 3)])
HISTORIES = [[0, 1, 3], [2], [5, 30, 1, 0], [3, 2, 35], [], [17, 17]]
TOKEN = 2 * 2 * 2 * 8 * 4  # 2 layers · key and value · 2 heads · 8 numbers · 4 bytes


class Full:
    """A context for which there is no memory left."""

    def __init__(self, *_: object, **__: object) -> None:
        raise MemoryError


def cache(root: Path | None = None, *, memory: int | None = None, numbers: Numbers = "exact", llm: Backbone = LLM) -> TextCache:
    built = TextCache(llm, INSTRUCTION, LINES, numbers=numbers, memory=memory)
    if root is not None:
        built.open(DiskStore.under(root), writes=True)
        built.build()
    return built


def contents(gathered: CachedContext) -> Tensor:
    """All layers' keys and values of the real tokens, end to end: [layers, tokens, 2, G, C]."""
    return torch.stack([gathered.layer(layer).movedim(3, 1)[gathered.mask] for layer in range(2)])


def gather(of: TextCache, histories: list[list[int]] | None = None) -> CachedContext:
    return of.gather(*tiny.batch(HISTORIES if histories is None else histories))


def test_a_token_s_rows() -> None:
    """Rows, index and stride are what a decoder may rely on; here they are walked by hand."""
    built = cache()
    found, history = gather(built, [[3, 1], [2]]), [*INSTRUCTION, *LINES[3], *LINES[1]]
    head, third, first = len(INSTRUCTION), len(LINES[3]), len(LINES[1])
    assert found.mask.sum(1).tolist() == [len(history), head + len(LINES[2])] == found.ends.tolist()
    assert found.stride[0].tolist() == [head] * head + [third] * third + [first] * first
    assert found.positions[0].tolist() == list(range(len(history)))
    for token, (index, stride) in enumerate(zip(found.index[0].tolist(), found.stride[0].tolist(), strict=True)):
        for layer in (0, 1):
            assert torch.equal(found.layer(layer)[0, :, :, token], found.rows[index + layer * stride])
            assert torch.equal(found.layer(layer, room=3)[0, :, :, token], found.rows[index + layer * stride])
    # A text of its own, read by the LLM alone, has the same values at the first layer: no other text was read with it.
    states = LLM.model.layers[0].input_layernorm(LLM.embed(torch.tensor(history)))
    torch.testing.assert_close(found.layer(0)[0, 1].movedim(1, 0), LLM.model.layers[0].self_attn.v_proj(states).view(len(history), 2, 8))


def test_one_text_is_one_block() -> None:
    built = TextCache(LLM, INSTRUCTION, [LINES[0], LINES[1], LINES[0]])
    assert built.texts == 2
    found = gather(built, [[0], [2]])
    assert torch.equal(found.index[0], found.index[1])
    longer = built.extended([LINES[1], LINES[2]])
    assert (longer.texts, len(longer), built.texts) == (3, 5, 2)
    second = longer.take(torch.tensor([4, 3, 3]))
    assert (second.texts, len(second)) == (2, 3)
    assert torch.equal(gather(second, [[1]]).index, gather(built, [[1]]).index)


@pytest.mark.parametrize("numbers", ["exact", "int8"])
def test_disk_and_memory_hold_the_same(tmp_path: Path, numbers: Numbers) -> None:
    expected = contents(gather(cache(tmp_path, numbers=numbers)))
    reader = TextCache(LLM, INSTRUCTION, LINES, numbers=numbers)
    reader.open(DiskStore.under(tmp_path), writes=False)
    assert torch.equal(contents(gather(reader)), expected)
    # Encoded at once, so in other batches than one history's texts.
    memory = cache(numbers=numbers)
    memory.gather(torch.arange(len(LINES))[:, None], torch.ones(len(LINES), 1, dtype=torch.bool))
    if numbers == "exact":
        torch.testing.assert_close(contents(gather(memory)), expected)


@pytest.mark.parametrize("tokens", [1, 40, 150])
def test_little_memory_changes_nothing(tmp_path: Path, tokens: int) -> None:
    whole, few = cache(tmp_path), cache(tmp_path, memory=tokens * TOKEN)
    order = torch.randperm(len(LINES), generator=torch.Generator().manual_seed(1)).tolist()
    for _ in range(2):
        for start in range(0, len(order), 4):
            batch = [order[start : start + 3], order[start + 3 : start + 4]]
            assert torch.equal(contents(gather(few, batch)), contents(gather(whole, batch)))
    gc.collect()
    assert len(few._shared._arena.rows) <= 2 * max(tokens, 5 * max(map(len, LINES))) * 5 // 4


def test_little_memory_and_no_folder() -> None:
    whole, few = cache(), cache(memory=60 * TOKEN)
    for start in range(0, len(LINES), 4):
        batch = [list(range(start, start + 4))]
        torch.testing.assert_close(contents(gather(few, batch)), contents(gather(whole, batch)), rtol=1e-4, atol=1e-5)


def test_rows_stay_while_they_are_read(tmp_path: Path) -> None:
    few = cache(tmp_path, memory=80 * TOKEN)
    first = gather(few, [[0, 1, 2]])
    before = contents(first)
    for item in range(3, len(LINES)):
        gather(few, [[item]])
    assert torch.equal(contents(first), before)
    del first
    gc.collect()
    few.extended([])  # what was released meanwhile is taken account of
    assert not any(slot.holders for block, slot in few._shared._arena._slots.items() if block)


def test_a_reader_that_fails_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    few = cache(memory=80 * TOKEN)
    monkeypatch.setattr("laserrec.text_cache.cache.CachedContext", Full)
    with pytest.raises(MemoryError):
        gather(few, [[0, 1, 2]])
    few.extended([])  # what was released meanwhile is taken account of
    held = [block for block, slot in few._shared._arena._slots.items() if slot.holders]
    assert held == [blocks.INSTRUCTION]


def test_new_texts_come_and_go(tmp_path: Path) -> None:
    built = cache(tmp_path)
    gather(built, [list(range(len(LINES)))])
    before, new = contents(gather(built)), LLM.tokenize_all(["socks\n", "boots\n"])
    size = len(built._shared._arena.rows)
    for _ in range(20):
        longer = built.extended(new)
        assert len(contents(gather(longer, [[len(LINES), 0]]))[0]) == len(INSTRUCTION) + len(new[0]) + len(LINES[0])
        del longer
    assert len(built._shared._arena.rows) == size
    assert torch.equal(contents(gather(built)), before)
    with pytest.raises(IndexError):
        gather(built, [[len(LINES)]])


def test_stopped_while_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    built, expected = cache(), contents(gather(cache()))

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(built.decoder, "forward", stop)
        with pytest.raises(KeyboardInterrupt):
            gather(built)
    assert torch.equal(contents(gather(built)), expected)


def test_size_is_known_before() -> None:
    built = cache()
    tokens = len(INSTRUCTION) + sum(map(len, {tuple(line): line for line in LINES}.values()))
    assert built.bytes == tokens * TOKEN == cache_bytes(tokens, built.decoder)
    assert cache(numbers="int8").bytes == tokens * 2 * 2 * 2 * (8 + 2)


def test_int8_rounds_by_half_a_step() -> None:
    rows = torch.randn(500, 2, 3, 64, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 4, 500)[:, None, None, None]
    rows[7, 0] = 0
    packed, scales = pack(rows)
    # A scale is rounded to bfloat16, with 8 significant bits, and so may be up to 1/256 off.
    bound = rows.abs().amax(-1, keepdim=True) / 127 * 0.5 * (1 + 1 / 256)
    assert ((unpack(packed, scales, torch.float32) - rows).abs() <= bound).all()
    assert ((unpack(packed, scales, torch.float32) - rows).norm() / rows.norm()) < 0.01
    assert packed.nbytes + scales.nbytes == rows.nbytes / 4 * (66 / 64)


def test_int8_reads_nearly_the_same(tmp_path: Path) -> None:
    from laserrec.laser.text_first import TextFirst

    virtual = torch.randn(len(HISTORIES), 3, tiny.WIDTH, generator=torch.Generator().manual_seed(2))
    exact, rounded = (TextFirst(cache(tmp_path, numbers=n), "suffix").read(*tiny.batch(HISTORIES), virtual) for n in ("exact", "int8"))
    assert torch.cosine_similarity(exact, rounded).min() > 0.999
    assert not torch.equal(exact, rounded)
    sizes = [sum(file.stat().st_size for file in folder.glob("shard-*")) for folder in tmp_path.iterdir()]
    assert max(sizes) > 2 * min(sizes)


def test_bfloat16_is_kept_as_it_is(tmp_path: Path) -> None:
    llm = tiny.backbone()
    llm.model.to(torch.bfloat16)
    kept = cache(tmp_path, llm=llm)
    again = cache(tmp_path, llm=llm)
    assert contents(gather(kept)).dtype == torch.bfloat16
    assert torch.equal(contents(gather(kept)), contents(gather(again)))
    assert kept.bytes * 2 == cache().bytes


def test_a_full_cache_gathers_without_looking_at_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = cache(tmp_path)
    gather(built)
    monkeypatch.delattr(SharedBlocks, "_hold_kept")
    gather(built)
