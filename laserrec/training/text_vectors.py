"""Each item's text as one vector, for models that read vectors in the place of words; computed once a run."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from laserrec.checkpoint import read_tensors, write_tensors
from laserrec.config import PromptConfig
from laserrec.data.dataset import Dataset
from laserrec.data.prompts import Template
from laserrec.nn.backbone import Backbone
from laserrec.nn.mean_states import mean_states
from laserrec.training.session import Session

FILE = "text-vectors.safetensors"
PHASE = "text vectors"


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


def text_vectors(data: Dataset, prompt: PromptConfig, backbone: Backbone, session: Session) -> TextVectors:
    """Return the mean last-layer state of each item's text: as kept in the session's folder, or computed now.

    Args:
        data: whose items.
        prompt: what their texts are made of, and where they are cut.
        backbone: the frozen LLM.
        session: where they are kept, and who watches.
    """
    path, began, template = session.folder / FILE, time.monotonic(), Template(prompt)
    texts = [template.item_text(item) for item in data.attributes()]
    checksum = hashlib.sha256(json.dumps(texts).encode()).hexdigest()
    source = {"llm": backbone.fingerprint(), "texts": checksum, "max_tokens": prompt.max_item_tokens}
    if path.is_file():
        tensors, kept = read_tensors(path)
        if kept.get("source") == source:
            return TextVectors(tensors["vectors"], kept["seconds"], source)
    with session.watched(PHASE, len(texts)) as told:
        vectors = mean_states(backbone, texts, max_tokens=prompt.max_item_tokens, told=told)
    seconds = time.monotonic() - began
    write_tensors(path, {"vectors": vectors}, {"source": source, "seconds": seconds})
    return TextVectors(vectors, seconds, source)
