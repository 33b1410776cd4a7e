"""Makes the tiny language models of `tests/core` and the small shop of `tests/recommender` importable here."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parents[1] / area) for area in ("core", "recommender")]
