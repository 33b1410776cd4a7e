"""What reading texts again takes, against the cache that a run reads from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from numpy.typing import NDArray

from laserrec.data.ragged import Ragged
from laserrec.nn.text_cache import TextCache
from laserrec.planning import texts as module
from laserrec.planning.texts import Again, disk_seconds, read_again

ITEMS = 400
DRAWS = np.random.default_rng(1)
LENGTHS = DRAWS.integers(3, 12, ITEMS)
HISTORIES = Ragged.from_rows([np.unique(DRAWS.zipf(1.3, 4) % ITEMS) for _ in range(600)])


def missed_by_a_cache(held: float) -> Again:
    """Shares of all texts' size that a real cache of that size brings into memory in its second epoch."""
    llm = tiny.backbone()
    lines = [[1 + item % 50, 1 + item // 50, *[3] * (length - 2)] for item, length in enumerate(LENGTHS.tolist())]
    whole = TextCache(llm, [], lines)
    cache, brought = TextCache(llm, [], lines, memory=int(held * whole.memory)), list[int]()
    load = cache._load

    def counted(blocks: NDArray[np.int64]) -> NDArray[np.int64]:
        brought.append(int(cache._lengths.numpy()[blocks].sum()))
        return load(blocks)

    cache._load = counted  # type: ignore[method-assign]
    found = Again(0.0, 0.0)
    for epoch in range(2):
        brought.clear()
        for start in range(0, ITEMS, 200):  # two parts of 200, as of 400 items in parts of at most 256
            items = torch.arange(start, start + 200)[:, None]
            cache.gather(items, torch.ones_like(items, dtype=torch.bool))
        scanned = sum(brought)
        brought.clear()
        order = np.random.default_rng(epoch).permutation(len(HISTORIES))
        for start in range(0, len(order), 16):
            cache.gather(*(torch.from_numpy(part) for part in HISTORIES.take(order[start : start + 16]).padded()))
        found = Again(scanned / LENGTHS.sum(), sum(brought) / LENGTHS.sum())
    return found


@pytest.mark.parametrize("held", [0.6, 0.7])
def test_as_much_is_read_again_as_a_cache_of_that_size_brings(held: float) -> None:
    expected, found = missed_by_a_cache(held), read_again(HISTORIES, LENGTHS, held)
    assert 0 < found.histories < HISTORIES.lengths.sum() / ITEMS
    assert found == pytest.approx(expected, rel=0.1)


def test_nothing_is_read_again_where_all_is_held() -> None:
    assert read_again(HISTORIES, LENGTHS, 1.0) == Again(0.0, 0.0)
    assert read_again(Ragged.from_rows([]), np.zeros(3, dtype=np.int64), 0.5) == Again(0.0, 0.0)


def test_a_part_of_the_items_tells_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    many = Ragged.from_rows([np.unique(DRAWS.integers(0, 4000, 5)) for _ in range(4000)])
    lengths = DRAWS.integers(3, 12, 4000)
    whole = read_again(many, lengths, 0.5)
    monkeypatch.setattr(module, "READS", 5000)  # a quarter
    assert read_again(many, lengths, 0.5) == pytest.approx(whole, rel=0.1)


def test_a_disk_is_tried_and_nothing_stays(tmp_path: Path) -> None:
    assert 0 < disk_seconds(tmp_path, 500_000) < 1e-6  # more than a megabyte a second
    assert list(tmp_path.iterdir()) == []
