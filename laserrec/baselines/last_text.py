"""The items whose texts are nearest to the last item's: what a frozen language model knows without any training."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize


class LastItemText:
    """Scores an item by the cosine of its text's vector with that of the last item of the history."""

    name = "Last-item text"
    trained_parameters = 0

    def __init__(self, vectors: Tensor) -> None:
        """Take the items' vectors, float [N, H]; one of zeros is like nothing else."""
        self.directions = normalize(vectors.float(), dim=1)

    def scores(self, items: Tensor, mask: Tensor) -> Tensor:
        """Return cosines with the last item of each history; see `Baseline`."""
        last = items.gather(1, mask.sum(1, keepdim=True) - 1)[:, 0]
        return self.directions[last] @ self.directions.T
