"""Rearrange histories padded on the right: item indices int64 [B, S] with a mask bool [B, S]."""

from __future__ import annotations

import torch
from torch import Tensor

from laserrec.data.ragged import Ragged


def compact(items: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Close the gaps of a mask: real items move to the left, in their order."""
    order = (~mask).long().argsort(dim=1, stable=True)
    return items.gather(1, order), mask.gather(1, order)


def recent(items: Tensor, mask: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Keep the last `limit` real items of each row."""
    later = mask.flip(1).cumsum(1).flip(1)
    items, mask = compact(items, mask & (later <= limit))
    return items[:, :limit], mask[:, :limit]


def lower_seen(scores: Tensor, items: Tensor, mask: Tensor, amount: Tensor) -> Tensor:
    """Subtract a scalar from the scores [B, N] of the items in each history, in place; once, even where an item is repeated.

    Only those scores are touched: a dense matrix of penalties would cost more than the product that made the scores.
    """
    row, item = distinct(items, mask & (items < scores.shape[1]), scores.shape[1])
    return scores.index_put_((row, item), -amount.expand(len(row)), accumulate=True)


def distinct(items: Tensor, mask: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the items of each row, all below `count`, as pairs of row and item, int64 [L] each, ascending and each once."""
    row, place = mask.nonzero(as_tuple=True)
    pairs = (row * count + items[row, place]).unique()
    return pairs // count, pairs % count


def padded(histories: Ragged, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return histories as tensors on a device: items int64 [B, S] padded on the right, and their mask bool [B, S]."""
    items, mask = histories.padded()
    return torch.from_numpy(items).to(device), torch.from_numpy(mask).to(device)
