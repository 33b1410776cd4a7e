"""The last item's text as a baseline, against texts read one by one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from torch.nn.functional import cosine_similarity

from laserrec.baselines.last_text import LastItemText
from laserrec.config import LaserConfig
from laserrec.data.dataset import Cases
from laserrec.data.ragged import Ragged
from laserrec.llm import mean_pooling as reading
from laserrec.system.devices import CPU
from laserrec.training.context import FitContext
from laserrec.training.text_vectors import TextVectors

TEXTS = ("Pen", "Blue pen", "A much longer text than the others", "", "Ink")


def test_scores_are_cosines_of_mean_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "TOKENS", 16)  # several batches
    llm, reported = tiny.backbone(), []
    vectors = TextVectors(reading.mean_states(llm, TEXTS, max_tokens=20, progress=reported.append), 2.5, {})
    data = SimpleNamespace(cases=lambda split: Cases(np.arange(0), Ragged.from_rows([]), np.arange(0)))
    baseline = LastItemText().fit(FitContext(data, LaserConfig(), device=CPU, vectors=vectors))  # type: ignore[arg-type]
    with torch.no_grad():
        alone = [llm.forward(llm.embed(torch.tensor(llm.tokenize(text, 20))[None]))[0].mean(0) if text else None for text in TEXTS]
    # The longest history ends in item 1, the shorter one in item 2, before its padding.
    scores = baseline.scores(torch.tensor([[2, 0, 1], [4, 2, 0]]), torch.tensor([[True, True, True], [True, True, False]]))
    assert scores.dtype == torch.float32
    for row, last in enumerate((alone[1], alone[2])):
        for item, vector in enumerate(alone):
            expected = torch.tensor(0.0) if last is None or vector is None else cosine_similarity(last, vector, dim=0)
            torch.testing.assert_close(scores[row, item], expected, atol=1e-5, rtol=1e-5)
    assert (baseline.label, baseline.seconds, baseline.parameters) == ("Last-item text", 2.5, 0)
    assert reported == sorted(reported)
    assert reported[-1] == len(TEXTS)
