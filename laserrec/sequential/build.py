"""Build the sequential recommender that the settings name.

Dimensions: B batch, S history, N catalogue.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from laserrec.config import CollaborativeConfig
from laserrec.layers.histories import recent
from laserrec.layers.room import require_room
from laserrec.sequential.base import SequentialRecommender
from laserrec.sequential.bert4rec import BERT4Rec
from laserrec.sequential.ensemble import Ensemble
from laserrec.sequential.fdsa import FDSA
from laserrec.sequential.gru4rec import GRU4Rec
from laserrec.sequential.item_table import TextTable
from laserrec.sequential.sasrec import SASRec


def build_recommender(
    config: CollaborativeConfig, catalogue_size: int, texts: Tensor | None = None, attributes: Tensor | None = None
) -> SequentialRecommender:
    """Return the recommender that the settings name, with fresh weights from torch's global generator.

    Args:
        config: its architecture.
        catalogue_size: N.
        texts: whitened vectors of the items' texts [N, F], where `config.reads_texts`; without, the recommender is built as it is once
            its item vectors and features are fixed.
        attributes: values of the items' attributes as numbers from 1, 0 where one is not known, int64 [N, A]; `fdsa` reads them.

    Raises:
        ConfigError: this machine's memory could not hold it in training.
    """
    require_room(partial(_build, config, catalogue_size, texts, attributes), "collaborative (width, blocks, max_history)")
    return _build(config, catalogue_size, texts, attributes)


def _build(config: CollaborativeConfig, catalogue_size: int, texts: Tensor | None, attributes: Tensor | None) -> SequentialRecommender:
    sizes = config.model_dump(include={"width", "blocks", "heads", "max_history", "dropout", "seen_penalty"})
    model: SequentialRecommender
    if config.model == "sasrec":
        model = SASRec(catalogue_size=catalogue_size, **sizes)
    elif config.model == "bert4rec":
        model = BERT4Rec(catalogue_size=catalogue_size, **sizes)
    elif config.model == "fdsa":
        model = FDSA(catalogue_size=catalogue_size, features=texts, attributes=attributes, **sizes)
    else:
        del sizes["heads"]
        model = GRU4Rec(catalogue_size=catalogue_size, **sizes)
    if texts is not None and config.items != "id":
        model.items = TextTable(texts, config.width, ids=config.items == "both", experts=config.text_experts)
    return model


def score_recent(model: SequentialRecommender | Ensemble, items: Tensor, mask: Tensor) -> Tensor:
    """Score the catalogue [B, N] after histories of any length, of which the model reads the most recent items."""
    return model.scores(*recent(items, mask, model.max_history))
