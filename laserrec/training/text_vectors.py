"""Each item's text as one vector, for models that read vectors instead of words; computed once and kept beside the encoded texts."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from laserrec.config import PromptConfig
from laserrec.errors import CheckpointError
from laserrec.llm.backbone import Backbone
from laserrec.llm.mean_pooling import mean_states
from laserrec.system.cache import texts_folder, vectors_lock
from laserrec.system.files import read_tensors, write_tensors
from laserrec.system.progress import Observer, watched

PHASE = "text vectors"
FORMAT = 2
"""Of a file of vectors: the first that is sealed."""


@dataclass(frozen=True)
class TextVectors:
    """A catalogue's texts.

    Attributes:
        values: float32 [N, H], on the CPU.
        seconds: that reading them took, now or when it was done.
        source: what they follow from: the LLM's fingerprint, the texts' checksum, where texts are cut.
    """

    values: Tensor
    seconds: float
    source: Mapping[str, Any]


def text_vectors(texts: Sequence[str], prompt: PromptConfig, backbone: Backbone, observers: Sequence[Observer] = ()) -> TextVectors:
    """Return the mean last-layer state of each text: as kept in the user's cache by whatever run, or computed now.

    Args:
        texts: the items', in index order.
        prompt: where they are cut.
        backbone: the frozen LLM.
        observers: who watches.

    Raises:
        CheckpointError: the cache cannot be written to.
    """
    source, shape = vectors_source(texts, prompt, backbone), (len(texts), backbone.width)
    path = vectors_file(source)
    kept = _read(path, source, shape)
    if kept is not None:
        return kept
    with _alone(path):  # others who want the same wait, and find it
        kept = _read(path, source, shape)
        if kept is not None:
            return kept
        began = time.monotonic()
        with watched(observers, PHASE, len(texts)) as progress:
            vectors = mean_states(backbone, texts, max_tokens=prompt.max_item_tokens, progress=progress)
        seconds = time.monotonic() - began
        write_tensors(path, {"vectors": vectors}, {"source": source, "seconds": seconds, "sha256": _checksum(vectors)})
    return TextVectors(vectors, seconds, source)


def vectors_source(texts: Sequence[str], prompt: PromptConfig, backbone: Backbone) -> dict[str, Any]:
    """Return what vectors follow from: the LLM's fingerprint, the texts' checksum, where texts are cut."""
    checksum = hashlib.sha256(json.dumps(texts).encode()).hexdigest()
    # Files of another format are not looked at, so an estimate does not count on them.
    return {"format": FORMAT, "llm": backbone.fingerprint(), "texts": checksum, "max_tokens": prompt.max_item_tokens}


def vectors_file(source: Mapping[str, Any]) -> Path:
    """Return where the vectors that follow from something are kept, once they are computed."""
    digest = hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()
    return texts_folder() / f"vectors-{digest[:16]}.safetensors"


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process at a time make a file.

    Raises:
        CheckpointError: its folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with vectors_lock(path):
            yield
    except OSError as error:
        raise CheckpointError(
            f"Cannot keep the texts' vectors in {path.parent}: {error}. Set LASERREC_CACHE to a folder of your own."
        ) from error


def _checksum(vectors: Tensor) -> str:
    return hashlib.sha256(vectors.contiguous().numpy().data).hexdigest()


def _read(path: Path, source: Mapping[str, Any], shape: tuple[int, int]) -> TextVectors | None:
    """Read kept vectors; None where there are none, or none that can be used, which are then computed again."""
    if not path.is_file():
        return None
    try:
        tensors, kept = read_tensors(path)
    except CheckpointError:
        return None
    values, seconds = tensors.get("vectors"), kept.get("seconds")
    if kept.get("source") != source or values is None or not isinstance(seconds, float):
        return None
    if values.shape != shape or values.dtype != torch.float32 or kept.get("sha256") != _checksum(values):
        return None
    with suppress(OSError):  # a cache that is shared may be another's
        os.utime(path)
    return TextVectors(values, seconds, source)
