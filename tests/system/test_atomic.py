"""Files and folders written beside their place: in one step, by the umask's rights, and without leftovers of killed processes."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path

import killable
import pytest
import torch

from laserrec.errors import AssetError, CheckpointError
from laserrec.system import atomic
from laserrec.system.atomic import aside, exchange, recover, system_error, work_folder, write_folder
from laserrec.system.cache import build_once
from laserrec.system.files import read_tensors, write_json, write_tensors


def fill(text: str) -> atomic.Callable[[Path], None]:
    def write(folder: Path) -> None:
        folder.mkdir()
        (folder / "file").write_text(text)

    return write


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_exchange_is_one_step_for_both(tmp_path: Path) -> None:
    for name in "ab":
        fill(name)(tmp_path / name)
    if not exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot exchange folders")
    assert ((tmp_path / "a" / "file").read_text(), (tmp_path / "b" / "file").read_text()) == ("b", "a")
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "a", tmp_path / "absent")


@pytest.mark.parametrize("one_step", [True, False])
def test_a_folder_is_replaced_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_step: bool) -> None:
    if not one_step:
        monkeypatch.setattr(atomic, "exchange", lambda *_: False)
    for text in ("old", "new"):
        write_folder(tmp_path / "x", fill(text))
        assert (tmp_path / "x" / "file").read_text() == text
    assert names(tmp_path) == ["x"]


def test_a_folder_that_cannot_be_filled_leaves_the_old_one(tmp_path: Path) -> None:
    write_folder(tmp_path / "x", fill("old"))

    def half(folder: Path) -> None:
        fill("half")(folder)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_folder(tmp_path / "x", half)
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x" / "file").read_text() == "old"


def test_what_a_process_killed_between_two_renames_left_is_put_back(tmp_path: Path) -> None:
    fill("old")(tmp_path / ".x.replaced")
    recover(tmp_path / "x")
    assert names(tmp_path) == ["x"]
    fill("older")(tmp_path / ".x.replaced")
    recover(tmp_path / "x")  # the replacement was finished
    assert (tmp_path / "x" / "file").read_text() == "old"
    write_folder(tmp_path / "x", fill("new"))
    assert (tmp_path / "x" / "file").read_text() == "new"


def hold(place: Path, ready: Event, done: Event) -> None:
    with work_folder(place):
        ready.set()
        done.wait(60)


def test_only_what_nobody_uses_any_more_is_removed(tmp_path: Path) -> None:
    for name in (".x.k1ll3d.partial", ".xy.other.partial", ".x.partial.txt"):
        fill("rest")(tmp_path / name)
    context = get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path / "x", ready, done))
    other.start()
    assert ready.wait(60)
    used = set(names(tmp_path)) - {".xy.other.partial", ".x.partial.txt"}
    assert len(used) == 1  # the other process has removed the leftover and works in its own folder
    with aside(tmp_path / "x") as partial:
        partial.write_text("mine")
        assert used < set(names(tmp_path))
    assert set(names(tmp_path)) == {"x", ".xy.other.partial", ".x.partial.txt", *used}
    other.kill()
    other.join()
    with aside(tmp_path / "x") as partial:
        partial.write_text("again")
    assert set(names(tmp_path)) == {"x", ".xy.other.partial", ".x.partial.txt"}


def test_names_as_long_as_a_file_system_allows(tmp_path: Path) -> None:
    with aside(tmp_path / ("ä" * 127)) as partial:
        partial.write_text("text")
    assert names(tmp_path) == ["ä" * 127]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_the_umask_decides_who_may_read(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_tensors(tmp_path / "tensors", {"a": torch.zeros(2)}, {})
        write_json(tmp_path / "json", {})
        write_folder(tmp_path / "folder", fill("x"))
    finally:
        os.umask(before)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "tensors": 0o666 & ~umask,
        "json": 0o666 & ~umask,
        "folder": 0o777 & ~umask,
    }


def test_what_rust_says_of_the_system_becomes_pythons_own_error() -> None:
    found = system_error(ValueError("Error while serializing: I/O error: No space left on device (os error 28)"))
    assert (found.errno, found.strerror) == (28, "No space left on device")
    assert str(system_error(ValueError("odd"))) == "odd"


def test_every_flipped_bit_of_a_tensor_file_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x"
    tensors = {"a": torch.arange(3.0), "b": torch.tensor([1, 2], dtype=torch.int32)}
    write_tensors(path, tensors, {"step": 7})
    content = path.read_bytes()
    refused = 0
    for place in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            found, state = read_tensors(path)
        except CheckpointError:
            refused += 1
        else:  # a letter of what nothing reads, such as a blank after the header
            assert state == {"step": 7}
            assert {name: (value.dtype, value.tolist()) for name, value in found.items()} == {
                name: (value.dtype, value.tolist()) for name, value in tensors.items()
            }
    data = sum(tensor.nbytes for tensor in tensors.values())
    assert refused > 8 * data


@contextmanager
def full_disk(limit: int = 10_000) -> Iterator[None]:
    """Refuse every file beyond a size, as a disk without room refuses it."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_the_old_files(tmp_path: Path) -> None:
    write_tensors(tmp_path / "tensors", {"a": torch.zeros(2)}, {})
    write_json(tmp_path / "json", {"a": 1})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with full_disk():
        with pytest.raises(OSError, match="File too large"):
            write_tensors(tmp_path / "tensors", {"a": torch.zeros(10_000)}, {})
        with pytest.raises(CheckpointError, match=r"Cannot write .*json: .*File too large.*Make room"):
            write_json(tmp_path / "json", {"a": "x" * 20_000})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_fit_on_a_full_disk_says_so(tmp_path: Path) -> None:
    with (
        full_disk(1000),
        pytest.raises(CheckpointError, match=r"Cannot write .*checkpoint\.safetensors: .*Make room on the disk and resume"),
    ):
        killable.train(tmp_path, resume=False)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []


def test_a_cache_on_a_full_disk_says_so(tmp_path: Path) -> None:
    def build() -> None:
        with build_once(tmp_path / "x") as folder:
            assert folder is not None
            (folder / "weights").write_bytes(bytes(20_000))

    with full_disk(), pytest.raises(AssetError, match="Set LASERREC_CACHE"):
        build()
    assert not (tmp_path / "x").exists()
