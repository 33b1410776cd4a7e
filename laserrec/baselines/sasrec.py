"""SASRec (Kang and McAuley, ICDM 2018) over ids, over the items' texts, and over both."""

from __future__ import annotations

from laserrec.baselines.sequential import SequentialBaseline

SASREC = SequentialBaseline("sasrec", "SASRec", "sasrec")
SASREC_TEXT = SequentialBaseline("sasrec-text", "SASRec on text", "sasrec", "text")
SASREC_TEXT_ID = SequentialBaseline("sasrec-text-id", "SASRec (text + id)", "sasrec", "both")
