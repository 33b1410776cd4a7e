"""Tensors and settings on disk: safetensors and JSON, never pickle, never half-written, and with a checksum over all of it.

Knows nothing of what the tensors mean.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from laserrec.errors import CheckpointError
from laserrec.system.atomic import ENDING, aside, discard, system_error

MAX_STATE_BYTES = 64 * 2**20
SEAL = "checksum"
"""The key beside a state's own under which a file keeps its checksum."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a folder to this process; the system lifts the lock when the process ends, however it ends.

    Raises:
        CheckpointError: another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / ".lock").acquire(blocking=False)
    except Timeout as error:
        raise CheckpointError(f"{folder} is being trained by another process. Wait for it, or choose another folder.") from error
    with lock:
        for partial in folder.glob(f".*{ENDING}"):
            discard(partial)  # a process killed while it wrote left this; the file beside it is whole
        yield


def write_tensors(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors and a JSON-able state as one safetensors file, atomically, with a checksum over all of it.

    Args:
        path: the file to write or replace.
        tensors: any shapes and dtypes, by name.
        state: kept as JSON in the file's header.

    Raises:
        OSError: the disk refuses; the old file is then as it was.
    """
    whole = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    # In one text with the state: safetensors writes several in an order that changes, and equal content should be equal bytes.
    about = {"state": json.dumps({**state, SEAL: _checksum(whole, state)})}
    with aside(path) as partial:
        save_tensors(partial, whole, about)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write a safetensors file that whoever may read other new files of this user may read.

    Args:
        path: the file.
        tensors: contiguous and on the CPU, by name.
        about: texts for the file's header.

    Raises:
        OSError: the disk refuses.
    """
    path.touch()
    rights = path.stat().st_mode  # the umask's; safetensors would leave the file to its owner alone
    try:
        save_file(dict(tensors), path, metadata=dict(about))
    except SafetensorError as error:
        raise system_error(error) from error
    path.chmod(rights)


def read_tensors(path: Path, *, sealed: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file of `write_tensors`.

    Args:
        path: the file.
        sealed: compare the content with the checksum in the file; False where the caller has compared the whole file with another one.

    Returns:
        The tensors by name, on the CPU, and the state.

    Raises:
        CheckpointError: the file is absent, truncated, damaged or not one of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("state", "")
            if len(text) > MAX_STATE_BYTES:
                raise CheckpointError(f"{path} holds a state of {len(text):,} bytes; at most {MAX_STATE_BYTES:,} are allowed.")
            state = json.loads(text)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no file {path}.") from error
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:  # RuntimeError: torch cannot map it, JSON too deep
        raise CheckpointError(f"{path} is not a readable laserrec checkpoint: {error}. Delete it or restore it from a copy.") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} is not a laserrec checkpoint: its state is a {type(state).__name__}, not an object.")
    seal = state.pop(SEAL, None)
    if sealed and seal != _checksum(tensors, state):
        raise CheckpointError(
            f"{path} is damaged, or an older laserrec wrote it: its content does not match its checksum. "
            "Delete it or restore it from a copy."
        )
    return tensors, state


def _checksum(tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> str:
    """Return the sha256 (hex) of tensors, with their names, types and shapes, and of the state beside them."""
    digest = hashlib.sha256(json.dumps(state).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON atomically.

    Raises:
        CheckpointError: the disk refuses; the old file is then as it was.
    """
    try:
        with aside(path) as partial:
            partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"Cannot write {path}: {error}. Make room on the disk, or choose another folder.") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: the file is absent or does not hold a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"Cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object; it holds a {type(value).__name__}.")
    return value
