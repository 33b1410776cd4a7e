"""The items whose texts are nearest to the last item's: what a frozen language model knows without any training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from laserrec.baselines.base import Fitted
from laserrec.baselines.seen_penalty import choose_penalty

if TYPE_CHECKING:
    from torch import Tensor

    from laserrec.config import LaserConfig
    from laserrec.training.context import FitContext, Stage


class LastItemText:
    """Scores an item by the cosine of its text's vector with that of the history's last item; a vector of zeros is like nothing else."""

    name = "last-text"
    label = "Last-item text"
    summary = "items whose texts are nearest to the last item's, by the frozen language model"

    def stages(self, config: LaserConfig) -> Sequence[Stage]:
        """The language model reads every text."""
        from laserrec.training.text_stages import VectorsStage

        return [VectorsStage()]

    def depends_on(self, config: LaserConfig) -> dict[str, Any]:
        """Return which language model reads what."""
        return config.model_dump(mode="json", include={"llm", "prompt"})

    def fit(self, context: FitContext) -> Fitted:
        """Take the directions of the texts' vectors, and choose a penalty on seen items."""
        from torch.nn.functional import normalize

        assert context.vectors is not None, "text vectors come before what reads them"
        directions = normalize(context.vectors.values.to(context.device).float(), dim=1)

        def scores(items: Tensor, mask: Tensor) -> Tensor:
            last = items.gather(1, mask.sum(1, keepdim=True) - 1)[:, 0]
            return directions[last] @ directions.T

        fitted = Fitted(self.label, scores, context.vectors.seconds)
        return choose_penalty(fitted, context.data.cases("valid"), context.device)
