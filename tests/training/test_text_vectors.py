"""Texts as one vector each: read once, whatever run asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import small_shop
import tiny
import torch

from laserrec.config import PromptConfig
from laserrec.data.dataset import Dataset
from laserrec.data.prompts import Template
from laserrec.errors import CheckpointError
from laserrec.system.cache import texts_folder, vectors_lock
from laserrec.system.files import read_tensors, write_tensors
from laserrec.text_cache.stored import remove_texts, stored_texts
from laserrec.training import text_vectors as module
from laserrec.training.text_vectors import TextVectors, text_vectors

Read = Callable[..., TextVectors]


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how many texts the language model reads, each time that it does; the cache is empty at first."""
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "cache"))
    read, real = list[int](), module.mean_states

    def reading(backbone: object, texts: list[str], **options: object) -> torch.Tensor:
        read.append(len(texts))
        return real(backbone, texts, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "mean_states", reading)
    return read


@pytest.fixture
def read(counted: list[int]) -> Read:
    """Ask for a shop's vectors."""

    def ask(data: Dataset | None = None, **prompt: object) -> TextVectors:
        settings = PromptConfig(**prompt)  # type: ignore[arg-type]
        return text_vectors(
            [Template(settings).item_text(item) for item in (data or small_shop.dataset()).attributes()], settings, tiny.backbone()
        )

    return ask


def test_another_run_reads_nothing_again(read: Read, counted: list[int]) -> None:
    first, second = read(), read()
    assert counted == [12]
    assert torch.equal(first.values, second.values)
    assert (first.seconds, first.source) == (second.seconds, second.source)


def test_what_vectors_follow_from_tells_them_apart(read: Read, counted: list[int]) -> None:
    renamed = small_shop.dataset()
    items = renamed.items.with_columns(pl.col("title").str.replace("Tent", "Big tent"))
    read()
    read(Dataset.of("renamed", items, renamed.events, renamed.split))
    read(max_item_tokens=3)
    assert counted == [12, 12, 12]
    assert len(list(texts_folder().glob("vectors-*"))) == 3


@pytest.mark.parametrize("damage", ["truncated", "flipped bits", "other source", "other shape", "of integers", "no checksum"])
def test_damaged_vectors_are_computed_again(read: Read, counted: list[int], damage: str) -> None:
    whole = read()
    (path,) = texts_folder().glob("vectors-*")
    _, state = read_tensors(path)
    values = {
        "other source": whole.values,
        "other shape": whole.values[1:].contiguous(),
        "of integers": torch.zeros(whole.values.shape, dtype=torch.int64),
    }
    stored = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(stored[:-100])
    elif damage == "flipped bits":
        path.write_bytes(stored[:-20] + bytes([stored[-20] ^ 1]) + stored[-19:])
    else:
        changes = {"other source": {"source": {}}, "no checksum": {"sha256": None}}
        write_tensors(path, {"vectors": values.get(damage, whole.values)}, state | changes.get(damage, {}))
    assert torch.equal(read().values, whole.values)
    assert torch.equal(read().values, whole.values)
    assert counted == [12, 12]


def test_they_are_listed_and_removed_with_the_encoded_texts(read: Read, counted: list[int]) -> None:
    read()
    (stored,) = stored_texts()  # neither the lock nor what is being written
    assert stored.bytes > 12 * tiny.WIDTH * 4
    with vectors_lock(stored.path):
        assert not remove_texts(stored)  # somebody is writing it
    assert remove_texts(stored)
    assert remove_texts(stored)  # somebody else was quicker
    read()
    assert counted == [12, 12]


def test_a_cache_that_cannot_be_written_to_is_told_before_anything_is_read(
    read: Read, counted: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "file"))
    with pytest.raises(CheckpointError, match=r"Cannot keep the texts' vectors in .*Set LASERREC_CACHE to a folder of your own"):
        read()
    assert counted == []
