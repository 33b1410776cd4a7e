"""FDSA (Zhang et al., IJCAI 2019), which reads the items' texts beside their vectors."""

from __future__ import annotations

from laserrec.baselines.sequential import SequentialBaseline

FDSA = SequentialBaseline("fdsa", "FDSA", "ids in one self-attention stream, texts in another", "fdsa")
