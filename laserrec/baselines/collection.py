"""Every baseline, in the order of tables. The command line, the demonstration and documents learn of a baseline from this tuple alone."""

from __future__ import annotations

from laserrec.baselines.base import Baseline
from laserrec.baselines.bert4rec import BERT4REC
from laserrec.baselines.blends import ENSEMBLE_TF_IDF_EASE, KNN_TF_IDF, KNN_TF_IDF_EASE
from laserrec.baselines.ease import EASE
from laserrec.baselines.ensemble import EnsembleBaseline
from laserrec.baselines.fdsa import FDSA
from laserrec.baselines.gru4rec import GRU4REC, GRU4REC_TEXT
from laserrec.baselines.item_knn import ITEM_NEIGHBOURS
from laserrec.baselines.last_text import LastItemText
from laserrec.baselines.popularity import Popularity
from laserrec.baselines.sasrec import SASREC, SASREC_TEXT, SASREC_TEXT_ID
from laserrec.baselines.sequential import SequentialBaseline
from laserrec.baselines.tf_idf import TF_IDF
from laserrec.baselines.unisrec import UNISREC, UNISREC_TEXT
from laserrec.errors import ConfigError

BASELINES: tuple[Baseline, ...] = (
    Popularity(),
    ITEM_NEIGHBOURS,
    EASE,
    TF_IDF,
    KNN_TF_IDF,
    KNN_TF_IDF_EASE,
    LastItemText(),
    SASREC,
    BERT4REC,
    GRU4REC,
    SASREC_TEXT,
    GRU4REC_TEXT,
    FDSA,
    UNISREC_TEXT,
    UNISREC,
    SASREC_TEXT_ID,
    EnsembleBaseline(),
    ENSEMBLE_TF_IDF_EASE,
)
DEMONSTRATED: tuple[Baseline, ...] = (Popularity(), ITEM_NEIGHBOURS, EASE, KNN_TF_IDF_EASE, SASREC)
"""Those that the demonstration shows beside Laser: what takes seconds, and the usual network. The log says what others would add."""
TUNABLE = tuple(baseline for baseline in BASELINES if isinstance(baseline, SequentialBaseline))
"""Those that are one fit, whose settings can be searched."""


def baselines_table() -> str:
    """Return all baselines as a Markdown table, as the reference shows it."""
    rows = [f"| `{baseline.name}` | {baseline.label} | {baseline.summary} |" for baseline in BASELINES]
    return "\n".join(["| name | in tables | |", "|---|---|---|", *rows]) + "\n"


def baseline_named(name: str) -> Baseline:
    """Return a baseline by its name on the command line.

    Raises:
        ConfigError: there is none.
    """
    for baseline in BASELINES:
        if baseline.name == name:
            return baseline
    raise ConfigError(f"Unknown baseline {name!r}; there are {', '.join(each.name for each in BASELINES)}.")
