"""What reading texts again takes, against the cache that a run reads from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import tiny
import torch
from numpy.typing import NDArray
from torch import Tensor

from laserrec.config import LLMConfig, PromptConfig
from laserrec.data.ragged import Ragged
from laserrec.laser.item_texts import ItemTexts
from laserrec.runs.planning import texts as module
from laserrec.runs.planning.texts import Missed, Rereading, TextCost, disk_seconds, read_again, rereading
from laserrec.text_cache.cache import TextCache
from laserrec.text_cache.store import ReadBlock, ZeroStore


class CountedZeros(ZeroStore):
    """A store that counts the tokens whose encodings are read from it; what they are does not matter."""

    brought = 0

    @contextmanager
    def reader(self) -> Iterator[ReadBlock]:
        def read(_place: int, rows: Tensor) -> bool:
            CountedZeros.brought += len(rows) // 2  # rows of two layers
            return True

        yield read


def missed_by_a_cache(histories: Ragged, lengths: NDArray[np.int64], held: float, rows: int) -> Missed:
    """Shares of all texts' size that a real cache of that size brings into memory in its second epoch."""
    llm, count = tiny.backbone(), len(lengths)
    lines = [[1 + item % 50, 1 + item // 50, *[3] * (length - 2)] for item, length in enumerate(lengths.tolist())]
    cache, found = TextCache(llm, [], lines, memory=int(held * TextCache(llm, [], lines).memory)), list[int]()
    cache.open(CountedZeros, writes=False)
    for epoch in range(2):
        before = CountedZeros.brought
        for items in torch.arange(count).split(256):
            cache.gather(items[:, None], torch.ones(len(items), 1, dtype=torch.bool))
        order, between = np.random.default_rng(epoch).permutation(len(histories)), CountedZeros.brought
        for start in range(0, len(order), rows):
            cache.gather(*(torch.from_numpy(part) for part in histories.take(order[start : start + rows]).padded()))
        found = [between - before, CountedZeros.brought - between]
    return Missed(*(share / lengths.sum() for share in found))


def skewed(count: int, rows: int) -> tuple[Ragged, NDArray[np.int64]]:
    draws = np.random.default_rng(1)
    return Ragged.from_rows([np.unique(draws.zipf(1.3, 4) % count) for _ in range(rows)]), draws.integers(3, 12, count)


@pytest.mark.parametrize(("held", "rows"), [(0.05, 16), (0.5, 16), (0.7, 64), (0.9, 16)])
def test_as_much_is_read_again_as_a_cache_of_that_size_brings(held: float, rows: int) -> None:
    histories, lengths = skewed(1000, 1500)
    expected, found = missed_by_a_cache(histories, lengths, held, rows), read_again(histories, lengths, held, rows=rows)
    assert 0 < found.histories < (lengths[histories.values].sum() / lengths.sum())
    assert list(found) == pytest.approx(list(expected), rel=0.1)


def test_nothing_is_read_again_where_all_is_held() -> None:
    histories, lengths = skewed(50, 80)
    assert read_again(histories, lengths, 1.0, rows=16) == Missed(0.0, 0.0)
    assert read_again(Ragged.from_rows([]), np.zeros(3, dtype=np.int64), 0.5, rows=16) == Missed(0.0, 0.0)


def test_a_part_that_nobody_asks_for_costs_nothing() -> None:
    histories, lengths = skewed(1000, 300)
    assert read_again(histories, lengths, 0.4, rows=16, items=False).items == 0
    # In order and in parts of a quarter of them, all are gone again before their turn.
    assert read_again(Ragged.from_rows([]), lengths, 0.4, rows=16) == Missed(1.0, 0.0)


def test_a_long_catalogue_is_sampled_however_little_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, put = list[int](), module.Arena.put
    monkeypatch.setattr(module.Arena, "put", lambda self, *args: (asked.append(1), put(self, *args))[1])
    monkeypatch.setattr(module, "READS", 100)
    read_again(Ragged.from_rows([[0, 1]]), np.full(20_000, 5), 0.5, rows=16)
    assert 0 < len(asked) < 400  # a two-hundredth, twice


@pytest.mark.parametrize("held", [0.1, 0.5])
def test_a_part_of_the_items_tells_the_same(monkeypatch: pytest.MonkeyPatch, held: float) -> None:
    histories, lengths = skewed(6000, 9000)
    whole = read_again(histories, lengths, held, rows=16)
    monkeypatch.setattr(module, "READS", len(histories.values) // 6)
    assert list(read_again(histories, lengths, held, rows=16)) == pytest.approx(list(whole), rel=0.2)


def test_a_disk_is_tried_and_nothing_stays(tmp_path: Path) -> None:
    assert 0 < disk_seconds(tmp_path, 500_000) < 1e-6  # more than a megabyte a second
    assert list(tmp_path.iterdir()) == []
    assert disk_seconds(tmp_path / "missing", 500_000) == 0


@pytest.fixture
def without_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half is missed in memory, a tenth where the system's cache counts as well; the disk takes 100 seconds a byte."""
    monkeypatch.setattr(module, "disk_seconds", lambda *_: 100.0)
    monkeypatch.setattr(
        module,
        "read_again",
        lambda histories, _, held, *, rows, items: Missed(0.5 * items, len(histories)) if held < 0.3 else Missed(0.1 * items, 0),
    )


def predicted(texts: ItemTexts, spare: float) -> Rereading:
    histories = Ragged.from_rows([[0, 1], [2]])
    return rereading(texts, histories, TextCost(0.0, 1000.0, 2.0, 0), rows=4, spare=int(spare * texts.bytes), folder=Path())


@pytest.mark.usefixtures("without_clocks")
@pytest.mark.parametrize("numbers", ["exact", "int8"])
def test_seconds_are_of_bytes_on_disk(numbers: Literal["exact", "int8"]) -> None:
    llm = LLMConfig(cache=numbers, cache_memory=0.25 * ItemTexts(tiny.backbone(), PromptConfig(), tiny.ITEMS).unlimited_memory / 2**30)
    texts = ItemTexts(tiny.backbone(), PromptConfig(), tiny.ITEMS, llm=llm)
    size = texts.bytes
    assert predicted(texts, 1.0) == pytest.approx((size * 0.5 * 2, size * 2 / 2 * 2))  # a share of 2 for 2 histories
    # Beside a quarter of the texts in memory the system has room for little, then for a tenth of them.
    assert predicted(texts, 0.02) == pytest.approx((size * 0.5 * (2 + 100), size * (2 + 100)))
    assert predicted(texts, 0.1) == pytest.approx((size * (0.5 * 2 + 0.1 * 100), size * 2))


@pytest.mark.usefixtures("without_clocks")
def test_items_with_an_instruction_of_their_own_are_read_out_of_their_own_cache() -> None:
    prompt = PromptConfig(instruction="Buys:", item_instruction="Sells:")
    llm = LLMConfig(cache_memory=0.25 * ItemTexts(tiny.backbone(), prompt, tiny.ITEMS).unlimited_memory / 2**30)
    texts = ItemTexts(tiny.backbone(), prompt, tiny.ITEMS, llm=llm)
    first, last = texts.caches
    assert predicted(texts, 1.0) == pytest.approx((last.bytes * 0.5 * 2, first.bytes * 2 / 2 * 2))


def test_nothing_is_read_again_without_encoded_texts_or_where_they_fit() -> None:
    for order in ("prefix_first", "text_first"):
        texts = ItemTexts(tiny.backbone(), PromptConfig.model_validate({"order": order}), tiny.ITEMS)
        assert rereading(texts, Ragged.from_rows([[0]]), TextCost(1, 1, 1, 0), rows=1, spare=0, folder=Path()) == Rereading(0.0, 0.0)
