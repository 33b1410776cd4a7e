"""UniSRec (Hou et al., KDD 2022): its item encoder in SASRec, trained from scratch on one catalogue.

docs/explanation/method.md has what differs.
"""

from __future__ import annotations

from laserrec.baselines.sequential import SequentialBaseline

UNISREC_TEXT = SequentialBaseline(
    "unisrec-text",
    "UniSRec (text)",
    "its item encoder, eight maps mixed by the text",
    "sasrec",
    "text",
    text_experts=8,
)
UNISREC = SequentialBaseline("unisrec", "UniSRec (text + id)", "the same, and ids", "sasrec", "both", text_experts=8)
