"""Whatever keeps encoded texts, a cache that it is handed to reads the same; and texts that nobody has any more leave no trace."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor

from laserrec.text_cache.cache import TextCache
from laserrec.text_cache.store import NOWHERE, BlockKind, Keys, NoStore, Places, ReadBlock, ZeroStore

LLM = tiny.backbone()
INSTRUCTION = LLM.tokenize("Buys:\n")
LINES = LLM.tokenize_all([f">> {title}\n" for title in tiny.TITLES])
EVERY = torch.arange(len(LINES))[None]
TOKEN = 2 * 2 * 2 * 8 * 4  # 2 layers · key and value · 2 heads · 8 numbers · 4 bytes


class Shelf:
    """A store in a list: what somebody would write who keeps texts elsewhere."""

    kept: list[tuple[bytes, Tensor]]

    def __init__(self, kind: BlockKind) -> None:
        self.row = kind.row

    def find(self, keys: Keys, sizes: Places) -> Places:
        names = {key: place for place, (key, _) in enumerate(self.kept)}
        assert all(names.get(key) is None or len(self.kept[names[key]][1]) == size for key, size in zip(keys, sizes, strict=True))
        return np.array([names.get(key, NOWHERE) for key in keys], dtype=np.int64)

    @contextmanager
    def reader(self) -> Iterator[ReadBlock]:
        def read(place: int, rows: Tensor) -> bool:
            rows.copy_(self.kept[place][1])
            return True

        yield read

    def refresh(self) -> bool:
        return False

    @contextmanager
    def writing(self) -> Iterator[bool]:
        yield False

    def append(self, keys: Keys, sizes: Places, rows: Tensor, seconds: float) -> None:
        assert seconds > 0
        self.kept += zip(keys, rows.split(sizes.tolist()), strict=True)

    def seconds(self, places: Places) -> float:
        return float(len(places))


def contents(cache: TextCache) -> Tensor:
    found = cache.gather(EVERY, torch.ones_like(EVERY, dtype=torch.bool))
    return torch.stack([found.layer(layer) for layer in range(2)])


def test_a_store_of_one_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shelf, "kept", [], raising=False)
    written, read = TextCache(LLM, INSTRUCTION, LINES), TextCache(LLM, INSTRUCTION, LINES)
    written.open(Shelf, writes=True)
    assert written.missing == sum(map(len, LINES))
    written.build()
    assert len(Shelf.kept) == len(LINES)
    read.open(Shelf, writes=False)
    assert (read.missing, read.seconds) == (0, len(LINES))
    monkeypatch.setattr(type(read._shared), "_read_texts", lambda *_: pytest.fail("is encoded again"))
    assert torch.equal(contents(read), contents(written))


def test_zeros_need_no_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = TextCache(LLM, INSTRUCTION, LINES)
    monkeypatch.setattr(type(cache._shared), "_read_texts", lambda *_: pytest.fail("is encoded"))
    cache.open(ZeroStore, writes=False)
    found = contents(cache)
    assert found[..., : len(INSTRUCTION), :].any()
    assert not found[..., len(INSTRUCTION) :, :].any()


def test_nothing_is_written_where_nothing_is_kept() -> None:
    cache = TextCache(LLM, INSTRUCTION, LINES)
    cache.open(NoStore, writes=True)
    with pytest.raises(NotImplementedError, match="keeps nothing"):
        cache.build()


def test_texts_that_nobody_has_leave_no_trace() -> None:
    cache = TextCache(LLM, INSTRUCTION, LINES)
    shared, before = cache._shared, contents(cache)
    cache.extended([[7, 7, 7]])  # some numbers to spare
    numbers = len(shared._texts)
    for number in range(50):
        other = cache.take(torch.tensor([3])).extended([[5, 6, number], LINES[0]])
        other.gather(torch.tensor([[0, 1, 2]]), torch.ones(1, 3, dtype=torch.bool))
        del other
    gc.collect()
    cache.extended([])
    assert len(shared._texts) == numbers
    assert len(shared._number_of) == len(LINES)
    assert torch.equal(contents(cache), before)


@pytest.mark.parametrize("tokens", [None, 60])
def test_threads_gather_what_one_gathers(tokens: int | None) -> None:
    memory = None if tokens is None else tokens * TOKEN
    whole, shared = TextCache(LLM, INSTRUCTION, LINES), TextCache(LLM, INSTRUCTION, LINES, memory=memory)
    rows = [[place % len(LINES), (5 * place) % len(LINES)] for place in range(64)]

    def layer(cache: TextCache, row: list[int]) -> Tensor:
        return cache.gather(*tiny.batch([row])).layer(1)

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda row: layer(shared, row), rows))
    for row, each in zip(rows, found, strict=True):
        torch.testing.assert_close(each, layer(whole, row), rtol=1e-4, atol=1e-5)
