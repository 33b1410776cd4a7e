"""The frozen language model that the settings name, and a dataset's texts as it reads them."""

from __future__ import annotations

from typing import Any

import torch

from laserrec.assets.store import texts_folder
from laserrec.config import LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.data.tables import ITEM, TITLE
from laserrec.devices import CPU
from laserrec.nn.backbone import Backbone
from laserrec.nn.gguf import resolve_llm
from laserrec.nn.text_cache import TextCache
from laserrec.training.session import Session
from laserrec.training.texts import ItemTexts


def load_backbone(config: LaserConfig, device: torch.device = CPU) -> Backbone:
    """Load the frozen LLM that the settings name onto a device, fetching and converting a named asset on first use.

    Raises:
        AssetError: it cannot be had.
    """
    llm, place = config.llm, resolve_llm(config.llm.model)
    return Backbone.load(place, layers=llm.layers, dtype=llm.dtype, weights=llm.weights, compiled=llm.compiled, device=device)


def dataset_texts(data: Dataset, config: LaserConfig, backbone: Backbone, cache: type[TextCache] = TextCache) -> ItemTexts:
    """Return the texts of a dataset's items and their reader; nothing is encoded yet.

    Args:
        data: whose items.
        config: what texts are made of, and how they are read and kept.
        backbone: the frozen LLM.
        cache: what encodes and keeps texts.

    Raises:
        ConfigError: the prompt names an attribute that no item has.
    """
    columns = [column for column in data.items.columns if column != ITEM]
    texts = ItemTexts(backbone, config.prompt, data.attributes(), config.virtual.read_out, config.llm, cache, columns)
    texts.template.check([column for column in columns if column != TITLE])
    return texts


def encode_texts(texts: ItemTexts, session: Session) -> dict[str, Any]:
    """Encode all texts, or take them from the user's cache, while the observers watch; return what it cost."""
    with session.watched(f"texts, {texts.bytes / 2**30:.1f} GiB", texts.count) as told:
        texts.encode_once(texts_folder(), told)
    return {"seconds": texts.seconds, "parameters": 0, "bytes": texts.bytes}
