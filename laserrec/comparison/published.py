"""Figures that others published on a split with a known fingerprint, all under the protocol `full`.

Figures of another split of the same data set are never shown beside ours, even under the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from laserrec.data.splits import known_split

METRICS = ("recall@10", "ndcg@10", "recall@50", "ndcg@50")
_ROWS: Mapping[str, Mapping[str, tuple[float, float, float, float]]] = {
    # Y. Hou et al., "Towards Universal Sequence Representation Learning for Recommender Systems" (UniSRec, KDD 2022), and for VQ-Rec
    # Y. Hou et al., "Learning Vector-Quantized Item Representation for Transferable Sequential Recommenders" (WWW 2023).
    # J. Wang et al., "MISSRec: Pre-training and Transferring Multi-modal Interest-aware Sequence Representation for Recommendation" (ACM MM
    # 2023): ids, texts and images, pre-trained on five other catalogues; github.com/gimpong/MM23-MISSRec, table 4.1, second row.
    "unisrec-scientific": {
        "SASRec": (0.1080, 0.0553, 0.2042, 0.0760),
        "BERT4Rec": (0.0488, 0.0243, 0.1185, 0.0393),
        "FDSA": (0.0899, 0.0580, 0.1732, 0.0759),
        "S³-Rec": (0.0525, 0.0275, 0.1418, 0.0468),
        "RecGURU": (0.1023, 0.0572, 0.2022, 0.0786),
        "SASRec on text": (0.0994, 0.0561, 0.2162, 0.0815),
        "ZESRec": (0.0851, 0.0475, 0.1746, 0.0670),
        "UniSRec (text)": (0.1188, 0.0641, 0.2394, 0.0903),
        "UniSRec (text + id)": (0.1235, 0.0634, 0.2473, 0.0904),
        "VQ-Rec": (0.1211, 0.0643, 0.2369, 0.0897),
        "MISSRec (with images)": (0.1360, 0.0753, 0.2431, 0.0983),
    },
}


@dataclass(frozen=True)
class Published:
    """One published row.

    Attributes:
        name: the model.
        metrics: its figures by metric.
    """

    name: str
    metrics: Mapping[str, float]


def published(fingerprint: str) -> list[Published]:
    """Return what was published on the test part of the split with this fingerprint; nothing for a split that is not known."""
    known = known_split(fingerprint)
    rows = _ROWS.get(known.name, {}) if known is not None else {}
    return [Published(name, dict(zip(METRICS, figures, strict=True))) for name, figures in rows.items()]
