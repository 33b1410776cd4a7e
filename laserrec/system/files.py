"""Tensors and settings on disk: safetensors and JSON, never pickle, never half-written.

Knows nothing of what the tensors mean.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from laserrec.errors import CheckpointError

MAX_STATE_BYTES = 64 * 2**20


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Give a place beside `path` to write a file to; at the end it is on the disk and moved to `path`, on any error it is removed.

    A reader, or a process started after this one was killed, sees the old file or the new one, never a part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("r+b") as written:
            os.fsync(written.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


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
        for partial in folder.glob(".*.partial"):
            # A process killed while it wrote left this; the file beside it is whole.
            partial.unlink(missing_ok=True)
        yield


def write_tensors(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors and a JSON-able state as one safetensors file, whole or not at all.

    Args:
        path: the file to write or replace.
        tensors: any shapes and dtypes, by name.
        state: kept as JSON in the file's header.
    """
    whole = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    with aside(path) as partial:
        save_file(whole, partial, metadata={"state": json.dumps(state)})


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file of `write_tensors`.

    Returns:
        The tensors by name, on the CPU, and the state.

    Raises:
        CheckpointError: the file is absent, truncated or not one of ours.
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
    except (OSError, SafetensorError, RuntimeError, json.JSONDecodeError) as error:  # RuntimeError: torch cannot map it, JSON too deep
        raise CheckpointError(f"{path} is not a readable laserrec checkpoint: {error}. Delete it or restore it from a copy.") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} is not a laserrec checkpoint: its state is a {type(state).__name__}, not an object.")
    return tensors, state


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    with aside(path) as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


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
