"""Encoded texts on disk: damage is found and mended, never used; what cannot be opened is kept."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import building
import numpy as np
import pytest
import torch
from building import INSTRUCTION, LINES, LLM, contents, descriptors, keys, opened, shards
from safetensors import safe_open

from laserrec.errors import CheckpointError
from laserrec.text_cache import disk as text_store
from laserrec.text_cache.blocks import SharedBlocks
from laserrec.text_cache.cache import TextCache
from laserrec.text_cache.disk import DiskStore

SCRIPT = Path(building.__file__)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def missing(path: Path) -> None:
    path.unlink()


def flip(place: float) -> Callable[[Path], None]:
    """Flip one bit of a file, `place` of the way through."""

    def harm(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(place * (len(content) - 1))] ^= 4
        path.write_bytes(content)

    return harm


def foreign(path: Path) -> None:
    """Put a whole shard of another identity there."""
    other = path.parent.parent / "other"
    cache = TextCache(LLM, [], LINES)
    cache.open(DiskStore.under(other), writes=True)
    cache.build()
    shutil.copy(shards(other)[0], path)
    shutil.rmtree(other)


HARM = {"cut": cut, "empty": empty, "missing": missing, "foreign": foreign}
HARM |= {f"flip {place}": flip(place) for place in (0, 0.03, 0.2, 0.5, 0.9, 1)}


@pytest.mark.parametrize("harm", HARM.values(), ids=list(HARM))
@pytest.mark.parametrize("writes", [True, False])
def test_damage_is_found_and_never_used(whole: Path, folder: Path, harm: Callable[[Path], None], writes: bool) -> None:
    expected = contents(opened(whole))
    harm(shards(folder)[1])
    cache = opened(folder, writes=writes)
    torch.testing.assert_close(contents(cache), expected, rtol=1e-4, atol=1e-5)
    if writes:
        cache.build()
        again = opened(folder)
        assert not again.missing
        assert not {key for path in shards(whole) for key in keys(path)} - {key for path in shards(folder) for key in keys(path)}
        # Nothing is left to encode: what was mended is read, from another process too.
        torch.testing.assert_close(contents(again), expected, rtol=1e-4, atol=1e-5)
        encoded: list[int] = []
        again.build(encoded.append)
        assert not encoded


def truncate(path: Path) -> None:
    os.truncate(path, 200)


def rebuild(path: Path) -> None:
    """Put, once, other texts' blocks of the same sizes where the folder's are: whole shards with the same names."""
    root = path.parent.parent
    if not (root / "again").exists():
        cache = TextCache(LLM, INSTRUCTION, LINES[::-1])
        cache.open(DiskStore.under(root / "again"), writes=True)
        cache.build()
    shutil.copy(root / "again" / path.parent.name / path.name, path)


@pytest.mark.parametrize("writes", [True, False])
@pytest.mark.parametrize("harm", [*HARM.values(), truncate, rebuild], ids=[*HARM, "truncate", "rebuild"])
def test_harm_while_in_use(whole: Path, folder: Path, harm: Callable[[Path], None], writes: bool) -> None:
    expected = contents(opened(whole))
    # Memory for a text at a time, so that what was read, and found to be intact, is read again.
    cache = TextCache(LLM, INSTRUCTION, LINES, memory=1)
    cache.open(DiskStore.under(folder), writes=writes)
    for item in range(len(LINES)):
        cache.gather(torch.tensor([[item]]), torch.ones(1, 1, dtype=torch.bool))
    for path in shards(folder):
        harm(path)
    torch.testing.assert_close(contents(cache), expected, rtol=1e-4, atol=1e-5)
    if writes:
        torch.testing.assert_close(contents(opened(folder)), expected, rtol=1e-4, atol=1e-5)


def test_few_descriptors_are_enough(whole: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(SCRIPT), str(tmp_path), "0", "6"], check=True, timeout=300)
    assert len(shards(tmp_path)) == len(LINES) > 6
    read = torch.from_numpy(np.load(tmp_path / "read.npy"))
    assert torch.equal(read, contents(opened(tmp_path)))
    torch.testing.assert_close(read, contents(opened(whole)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("writes", [False, True])
def test_damage_to_several_blocks_of_a_batch_is_found(whole: Path, folder: Path, writes: bool) -> None:
    expected = contents(opened(whole))
    for path in shards(folder):
        with safe_open(path, "pt") as file:
            size = file.get_tensor("rows").nbytes
        data = bytearray(path.read_bytes())
        start = data.index(safe_rows(path))
        data[start : start + size] = bytes(size)
        path.write_bytes(data)
    cache = opened(folder, writes=writes)
    torch.testing.assert_close(contents(cache), expected, rtol=1e-4, atol=1e-5)


def safe_rows(path: Path) -> bytes:
    with safe_open(path, "pt") as file:
        found: bytes = file.get_tensor("rows").view(torch.uint8).numpy().tobytes()
    return found


class Slow(io.FileIO):
    """A file of which the system gives a few bytes at a time, and at the end no more."""

    fails = False

    def readinto(self, room: Any) -> int:  # noqa: ANN401
        if self.fails and len(room) < 100:
            raise OSError(errno.EIO, "Input/output error")
        return super().readinto(room[:97])


def test_little_by_little_is_no_damage_and_an_error_is_an_error(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = contents(opened(whole))
    cache = opened(whole)
    monkeypatch.setattr(Path, "open", lambda path, *_, **__: Slow(path))
    monkeypatch.setattr(SharedBlocks, "_read_texts", lambda *_: pytest.fail("is encoded again"))
    assert torch.equal(contents(cache), expected)
    monkeypatch.undo()
    cache = opened(whole)
    monkeypatch.setattr(Path, "open", lambda path, *_, **__: Slow(path))
    monkeypatch.setattr(Slow, "fails", True)
    with pytest.raises(CheckpointError, match="Input/output error"):
        contents(cache)


def test_a_batch_opens_each_file_once(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, asked, plain = opened(whole), list[str](), Path.open

    def counted(path: Path, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        asked.append(path.name)
        return plain(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", counted)
    items = torch.arange(len(LINES))[torch.randperm(len(LINES), generator=torch.Generator().manual_seed(0))]
    cache.gather(items[:, None], torch.ones(len(items), 1, dtype=torch.bool))
    assert sorted(asked) == [path.name for path in shards(whole)]
    assert len(asked) < len(LINES)


def bounded(most: int = 50) -> Callable[[int], None]:
    """Make a listener to `build` that fails where it goes on and on."""
    calls: list[int] = []

    def progress(done: int) -> None:
        calls.append(done)
        assert len(calls) < most, "build() does not end"

    return progress


def test_without_descriptors_nothing_is_lost(whole: Path, folder: Path) -> None:
    before = {path: path.read_bytes() for path in shards(folder)}
    cache = opened(folder, writes=True)
    with descriptors(0), pytest.raises(CheckpointError, match=r"Cannot read encoded texts in .*Too many open files.*ulimit -n"):
        opened(folder)
    with descriptors(0), pytest.raises(CheckpointError, match=r"Cannot read encoded texts in .*ulimit -n"):
        contents(cache)
    outcomes = []
    for free in range(4):
        cache = opened(folder, writes=True)
        cache = cache.extended([[5, 6, 7 + free]])
        with descriptors(free):
            try:
                cache.build(bounded())
                outcomes.append(True)
            except CheckpointError:
                outcomes.append(False)
    assert outcomes[0] is False
    assert outcomes[3] is True
    assert {path: path.read_bytes() for path in before} == before
    assert torch.equal(contents(opened(folder)), contents(opened(whole)))


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EMFILE, "ulimit -n"), (errno.ENFILE, "ulimit -n"), (errno.ENOMEM, "Free memory"), (errno.EACCES, "LASERREC_CACHE"),
        (errno.EIO, "Delete the file"),
    ],
)  # fmt: skip
def test_what_cannot_be_opened_is_no_damage(folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str) -> None:
    before, open_file = {path: path.read_bytes() for path in shards(folder)}, Path.open

    def fail(path: Path, mode: str = "r", **options: str | None) -> IO[Any]:
        if path == shards(folder)[1]:
            raise OSError(number, os.strerror(number), str(path))
        return open_file(path, mode, **options)

    cache = opened(folder, writes=True)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fail)
        for refused in (lambda: opened(folder), lambda: contents(cache)):
            with pytest.raises(CheckpointError, match=advice):
                refused()
    cache = cache.extended([[5, 6, 7]])
    cache.build()
    assert {path: path.read_bytes() for path in before} == before
    assert torch.equal(contents(cache), contents(opened(folder)))


def test_a_write_that_leaves_nothing_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = opened(folder, writes=True)
    cache = cache.extended([[5, 6, 7]])
    write = text_store.write_shard
    for harm in (missing, empty, truncate):

        def lose(path: Path, *what: object, harm: Callable[[Path], None] = harm) -> None:
            write(path, *what)  # type: ignore[arg-type]
            harm(path)

        with monkeypatch.context() as patch:
            patch.setattr(text_store, "write_shard", lose)
            with pytest.raises(CheckpointError, match=r"What was just written to .*shard-.*LASERREC_CACHE"):
                cache.build(bounded())
    cache.build()
    assert not cache.missing


def test_what_another_mended_is_left_alone(folder: Path) -> None:
    *_, last = shards(folder)
    cut(last)
    first, second = opened(folder, writes=True), opened(folder, writes=True)  # both see it as damaged
    with second._shared._store.writing():
        pass  # and is killed before it has mended anything
    third = opened(folder, writes=True)
    third.build()
    mended = {path: path.read_bytes() for path in shards(folder)}
    assert last not in mended
    first = first.extended([[5, 6, 7]])
    first.build()
    assert len(shards(folder)) == len(mended) + 1
    assert {path: path.read_bytes() for path in mended} == mended
    assert not opened(folder).missing


def test_a_manifest_s_loss_is_harmless(whole: Path, folder: Path) -> None:
    manifest = shards(folder)[0].parent / "manifest.json"
    text = manifest.read_text()
    for place, harm in enumerate((missing, cut, empty)):
        harm(manifest)
        assert torch.equal(contents(opened(folder)), contents(opened(whole)))
        cache = opened(folder, writes=True)
        cache = cache.extended([[place]])  # so that there is something to write
        cache.build()
        assert manifest.read_text() == text
