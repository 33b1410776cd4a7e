"""Items whose texts share words with those of the history: what texts give without a language model and without training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from laserrec.baselines.base import Fitted

if TYPE_CHECKING:
    from laserrec.config import LaserConfig
    from laserrec.training.context import FitContext, Stage


class TfIdf:
    """Scores items by the cosines of their TF-IDF vectors with those of the history's last items; its own items get 0 as in `item_knn`."""

    name = "tf-idf"
    label = "TF-IDF"
    summary = "items whose texts share rare words with those of the history, nothing trained"

    def stages(self, config: LaserConfig) -> Sequence[Stage]:
        """Nothing is trained."""
        return []

    def depends_on(self, config: LaserConfig) -> dict[str, Any]:
        """No setting matters: all attributes of an item are its text."""
        return {}

    def fit(self, context: FitContext) -> Fitted:
        """Count words."""
        from laserrec.training.tf_idf import text_kernel

        began = time.monotonic()
        kernel = text_kernel([" ".join(item.values()) for item in context.data.attributes()])
        seconds = time.monotonic() - began
        return Fitted(self.label, kernel.to(context.device).scores, seconds)
