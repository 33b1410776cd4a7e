"""How much of something a plan tries, and what a fit keeps."""

from __future__ import annotations

import torch
from torch import nn

from laserrec.runs.planning.probe import ON_GPU, enough, kept_bytes


def test_a_gpu_is_given_more_to_do() -> None:
    assert enough(64, torch.device("cpu")) == 64
    assert enough(64, torch.device("cuda:1")) == 64 * ON_GPU > 1000  # more than the scalars are fitted on


def test_moments_gradients_and_the_best_weights_are_kept() -> None:
    module = nn.Linear(3, 2)  # 6 weights and 2 that are frozen, 4 bytes each
    module.bias.requires_grad_(False)
    module.register_buffer("measures", torch.zeros(5))
    assert kept_bytes(module) == 3 * 24 + (24 + 8 + 20)
