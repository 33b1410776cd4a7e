"""The frozen language model that the settings name, and a dataset's texts as it reads them."""

from __future__ import annotations

from typing import Any

from laserrec.config import LaserConfig
from laserrec.data.dataset import Dataset
from laserrec.data.tables import ITEM, TITLE
from laserrec.laser.item_texts import ItemTexts
from laserrec.llm.backbone import Backbone
from laserrec.system.cache import texts_folder
from laserrec.training.session import Session


def dataset_texts(data: Dataset, config: LaserConfig, backbone: Backbone) -> ItemTexts:
    """Return the texts of a dataset's items and their reader; nothing is encoded yet.

    Args:
        data: whose items.
        config: what texts are made of, and how they are read and kept.
        backbone: the frozen LLM.

    Raises:
        ConfigError: the prompt names an attribute that no item has.
    """
    columns = [column for column in data.items.columns if column != ITEM]
    texts = ItemTexts(backbone, config.prompt, data.attributes(), config.virtual.read_out, config.llm, columns)
    texts.template.check([column for column in columns if column != TITLE])
    return texts


def encode_texts(texts: ItemTexts, session: Session) -> dict[str, Any]:
    """Encode all texts, or take them from the user's cache, while the observers watch; return what it cost."""
    with session.watched(f"texts, {texts.bytes / 2**30:.1f} GiB", texts.count) as told:
        texts.encode_once(texts_folder(), told)
    return {"seconds": texts.seconds, "parameters": 0, "bytes": texts.bytes}
