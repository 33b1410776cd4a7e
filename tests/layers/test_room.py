"""Absurd sizes are refused before anything is allocated, and sizes that fit draw the same weights as ever."""

from __future__ import annotations

import time

import pytest
import tiny
import torch

from laserrec.config import CollaborativeConfig, LaserConfig
from laserrec.errors import ConfigError
from laserrec.laser.model import LaserModel
from laserrec.sequential.build import build_recommender
from laserrec.system.resources import peak_memory

HUGE = 10**9


@pytest.mark.parametrize("model", ["sasrec", "bert4rec", "gru4rec", "fdsa"])
@pytest.mark.parametrize("change", [{"width": HUGE, "heads": 1}, {"max_history": 10**12}, {"width": 10**6, "heads": 1, "blocks": 200}])
def test_recommenders(model: str, change: dict[str, int]) -> None:
    if model == "gru4rec" and "max_history" in change:
        pytest.skip("it has no positions")
    config = CollaborativeConfig.model_validate({"model": model, **change})
    before, began = peak_memory(), time.monotonic()
    with pytest.raises(ConfigError, match=r"The sizes in collaborative .*Choose smaller ones"):
        build_recommender(config, 1000)
    assert peak_memory() - before < 2**28
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    "sections",
    [
        {"virtual": {"prefix_length": HUGE}},
        {"mformer": {"experts": HUGE}},
        {"mformer": {"width": 10**8, "heads": 1}},
        {"mformer": {"source": "linear"}, "virtual": {"prefix_length": HUGE}},
        {"mformer": {"source": "plain"}, "virtual": {"prefix_length": 10**15}},
    ],
)
def test_the_trained_part(sections: dict[str, dict[str, int]]) -> None:
    config = LaserConfig.build("default", sections, "test")
    before = peak_memory()
    with pytest.raises(ConfigError, match=r"The sizes in virtual and mformer .*Choose smaller ones"):
        LaserModel(config, tiny.backbone(), state_width=8, catalogue_size=10)
    assert peak_memory() - before < 2**28


def test_counting_draws_nothing() -> None:
    torch.manual_seed(5)
    build_recommender(CollaborativeConfig(), 100)
    after = torch.get_rng_state()
    from laserrec.sequential.build import _build

    torch.manual_seed(5)
    _build(CollaborativeConfig(), 100, None, None)
    assert torch.get_rng_state().equal(after)


@pytest.mark.parametrize("wrong", [f"seed={2**64}", "collaborative.blocks=1000000", "mformer.blocks=5000", "runtime.text_memory=1e300"])
def test_settings_beyond_all_use(wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong.partition("=")[0].replace(".", r"\.")):
        LaserConfig().override([wrong])
