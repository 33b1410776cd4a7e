"""Tensor files: whole or not there, and no damage goes unnoticed or unnamed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from laserrec.errors import CheckpointError
from laserrec.system import files as checkpoint
from laserrec.system.files import read_json, read_tensors, write_json, write_tensors

TENSORS = {
    "a.weight": torch.arange(6.0).reshape(2, 3),
    "b": torch.tensor(7),
    "empty": torch.empty(0, 4),
    "half": torch.ones(3, dtype=torch.bfloat16),
}
STATE: dict[str, Any] = {"identity": {"data": "f00", "§": "é"}, "progress": {"epoch": 2, "score": 0.5, "history": [{"x": None}]}}


def written(folder: Path) -> Path:
    write_tensors(folder / "x.safetensors", TENSORS, STATE)
    return folder / "x.safetensors"


def equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(left[key].dtype == right[key].dtype and torch.equal(left[key], right[key]) for key in left)


def test_round_trip(tmp_path: Path) -> None:
    tensors, state = read_tensors(written(tmp_path))
    assert equal(tensors, TENSORS)
    assert state == STATE
    assert os.listdir(tmp_path) == ["x.safetensors"]


def test_views_and_gradients_are_written_as_they_look(tmp_path: Path) -> None:
    whole = torch.arange(6.0).reshape(2, 3).requires_grad_()
    write_tensors(tmp_path / "deep" / "x", {"turned": whole.T, "part": whole[0]}, {})
    tensors, state = read_tensors(tmp_path / "deep" / "x")
    assert tensors["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert tensors["part"].tolist() == [0, 1, 2]
    assert state == {}


def test_tensors_stay_readable_when_the_file_is_replaced(tmp_path: Path) -> None:
    path = written(tmp_path)
    tensors, _ = read_tensors(path)
    write_tensors(path, {"b": torch.tensor(8)}, {})
    assert equal(tensors, TENSORS)
    assert read_tensors(path)[0]["b"] == 8


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    with pytest.raises(TypeError):
        write_tensors(path, {}, {"not": {"json"}})

    def full(tensors: dict[str, Tensor], aside: Path, metadata: dict[str, str]) -> None:
        aside.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        write_tensors(path, {"b": torch.tensor(8)}, {})
    assert equal(read_tensors(path)[0], TENSORS)
    assert os.listdir(tmp_path) == ["x.safetensors"]


def test_a_part_that_a_killed_process_left_is_harmless(tmp_path: Path) -> None:
    (tmp_path / ".x.safetensors.1234.partial").write_bytes(b"half")
    (tmp_path / f".x.safetensors.{os.getpid()}.partial").write_bytes(b"half")
    assert equal(read_tensors(written(tmp_path))[0], TENSORS)


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"garbage" * 99, b"\xff" * 64, b'{"a": 1}', b"\x08" + b"\0" * 7 + b"[1,2,3] "])
def test_garbage(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is not a readable laserrec checkpoint.*Delete it or restore it"):
        read_tensors(path)


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            read_tensors(path)


def test_nothing_may_follow(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(CheckpointError):
        read_tensors(path)


@settings(max_examples=300)
@given(data=st.data())
def test_flipped_bytes_of_the_header(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = written(tmp_path_factory.mktemp("flipped"))
    content = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        tensors, state = read_tensors(path)
    except CheckpointError:
        return
    # What still parses is another valid file: names and figures may differ, its shape may not.
    assert all(isinstance(tensor, Tensor) for tensor in tensors.values())
    assert isinstance(state, dict)


@pytest.mark.parametrize("state", [None, "", "{", "[]", "3", '"x"', "null", "[" * 200_000])
def test_files_of_others(tmp_path: Path, state: str | None) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "x", metadata=None if state is None else {"state": state})
    with pytest.raises(CheckpointError):
        read_tensors(tmp_path / "x")


def test_a_state_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    monkeypatch.setattr(checkpoint, "MAX_STATE_BYTES", 10)
    with pytest.raises(CheckpointError, match="bytes; at most 10 are allowed"):
        read_tensors(path)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"There is no file .*absent"):
        read_tensors(tmp_path / "absent")
    with pytest.raises(CheckpointError):
        read_tensors(tmp_path)


def test_json_round_trip(tmp_path: Path) -> None:
    write_json(tmp_path / "deep" / "x.json", STATE)
    assert read_json(tmp_path / "deep" / "x.json") == STATE
    assert os.listdir(tmp_path / "deep") == ["x.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'"x"', b"\xff\xfe", json.dumps(STATE).encode()[:-1]])
def test_json_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.json"):
        read_json(tmp_path / "x.json")


def test_json_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"Cannot read .*absent"):
        read_json(tmp_path / "absent")
