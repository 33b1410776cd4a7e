"""SASRec (Kang and McAuley, ICDM 2018) over ids, over the items' texts, and over both."""

from __future__ import annotations

from laserrec.baselines.sequential import SequentialBaseline

SASREC = SequentialBaseline("sasrec", "SASRec", "self-attention over ids", "sasrec")
SASREC_TEXT = SequentialBaseline("sasrec-text", "SASRec on text", "item vectors from texts, through one linear map", "sasrec", "text")
SASREC_TEXT_ID = SequentialBaseline(
    "sasrec-text-id", "SASRec (text + id)", "that map, and ids: what Laser's ensemble has four of", "sasrec", "both"
)
