"""GRU4Rec (Hidasi et al., ICLR 2016) over ids; and over the items' texts alone, which is ZESRec's kind (Ding et al., 2021)."""

from __future__ import annotations

from laserrec.baselines.sequential import SequentialBaseline

GRU4REC = SequentialBaseline("gru4rec", "GRU4Rec", "a recurrent network over ids", "gru4rec")
GRU4REC_TEXT = SequentialBaseline("gru4rec-text", "GRU4Rec on text", "a recurrent network over texts alone, as ZESRec", "gru4rec", "text")
