"""How much of something a plan tries."""

from __future__ import annotations

import torch

from laserrec.planning.probe import ON_GPU, enough


def test_a_gpu_is_given_more_to_do() -> None:
    assert enough(64, torch.device("cpu")) == 64
    assert enough(64, torch.device("cuda:1")) == 64 * ON_GPU > 1000  # more than the scalars are fitted on
