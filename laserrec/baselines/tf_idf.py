"""Items whose texts share words with those of the history: what texts give without a language model and without training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laserrec.baselines.closed_form import ClosedForm

if TYPE_CHECKING:
    from laserrec.layers.item_weights import SparseWeights
    from laserrec.training.context import FitContext


def _count_words(context: FitContext) -> SparseWeights:
    from laserrec.layers.tf_idf import text_kernel

    return text_kernel([" ".join(item.values()) for item in context.data.attributes()])  # all attributes of an item are its text


TF_IDF = ClosedForm("tf-idf", "TF-IDF", "items whose texts share rare words with those of the history, nothing trained", _count_words)
