"""BERT4Rec (Sun et al., CIKM 2019)."""

from __future__ import annotations

from laserrec.baselines.sequential import SequentialBaseline

BERT4REC = SequentialBaseline("bert4rec", "BERT4Rec", "self-attention over ids that fills in hidden items", "bert4rec")
