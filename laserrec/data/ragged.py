"""Rows of unequal length in two flat arrays, the shape of every set of histories.

Knows nothing of users, items or torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ragged:
    """Row r is `values[offsets[r]:offsets[r + 1]]`.

    Attributes:
        values: every row end to end, int64 [total].
        offsets: where each row starts, and the end, int64 [rows + 1].
    """

    values: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int] | NDArray[np.int64]]) -> Ragged:
        """Join rows of integers into one ragged array."""
        lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
        values = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows]) if len(rows) else np.empty(0, np.int64)
        return cls(values.astype(np.int64, copy=False), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[np.int64]:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        return (self[row] for row in range(len(self)))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Length of every row, int64 [rows]."""
        return np.diff(self.offsets)

    def take(self, rows: NDArray[np.int64] | Sequence[int]) -> Ragged:
        """Return the chosen rows, in the order given."""
        rows = np.asarray(rows, dtype=np.int64)
        return self._gather(self.offsets[rows], self.lengths[rows])

    def tails(self, limit: int) -> Ragged:
        """Return every row cut to its last `limit` values: the most recent part of each history."""
        lengths = np.minimum(self.lengths, limit)
        return self._gather(self.offsets[1:] - lengths, lengths)

    def before_last(self, limit: int) -> Ragged:
        """Return every row of two values or more without its last one, cut to the last `limit` of the others."""
        several = np.flatnonzero(self.lengths > 1)
        lengths = np.minimum(self.lengths[several] - 1, limit)
        return self._gather(self.offsets[several + 1] - 1 - lengths, lengths)

    def absent(self, count: int) -> NDArray[np.int64]:
        """Return which of the values 0 … count - 1 no row holds, int64, ascending."""
        return np.flatnonzero(np.bincount(self.values, minlength=count) == 0)

    def _gather(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Ragged:
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return Ragged(self.values[np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])], offsets)

    def padded(self, fill: int = 0) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the rows as a rectangle, padded on the right.

        Returns:
            values int64 [rows, longest] and a mask bool [rows, longest], True where a value is real.
        """
        mask = np.arange(self.lengths.max(initial=0))[None, :] < self.lengths[:, None]
        rectangle = np.full(mask.shape, fill, dtype=np.int64)
        rectangle[mask] = self.values
        return rectangle, mask
