"""Put an untrained system together from its parts."""

from __future__ import annotations

import torch

from laserrec.config import LaserConfig
from laserrec.laser.collaborative_view import CollaborativeView
from laserrec.laser.item_texts import ItemTexts
from laserrec.laser.model import LaserModel
from laserrec.laser.system import LaserSystem
from laserrec.llm.backbone import Backbone


def build_laser(config: LaserConfig, backbone: Backbone, texts: ItemTexts, collaborative: CollaborativeView) -> LaserSystem:
    """Put an untrained system together, on the LLM's device; the run's seed draws its weights."""
    torch.manual_seed(config.seed)
    model = LaserModel(config, backbone, state_width=collaborative.model.width, catalogue_size=len(texts.items))
    device = backbone.device
    return LaserSystem(model.to(device), texts.reader, collaborative.to(device), config.prompt.max_history, texts.item_reader)
