"""On a real CUDA device; run with `-m gpu`."""

from __future__ import annotations

from pathlib import Path

import pytest
import small_shop
import torch
from test_system import Pair, batch, trained

from laserrec import Laser

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda:0")


@pytest.mark.parametrize("variant", ["text_first", "prefix_first", "mean", "linear", "qwen3"])
def test_the_same_weights_give_the_same_scores(variant: str) -> None:
    pair = Pair(variant, CUDA)
    there = pair.there.scores(*batch(CUDA))
    assert there.device == CUDA
    torch.testing.assert_close(there.cpu(), pair.here.scores(*batch(pair.here.device)), rtol=1e-4, atol=1e-4)


def test_a_fit_is_resumed(tmp_path: Path) -> None:
    expected = trained(Pair("text_first", CUDA).there, tmp_path / "whole", stop=False)
    trained(Pair("text_first", CUDA).there, tmp_path / "stopped", stop=True)
    for name, tensor in trained(Pair("text_first", CUDA).there, tmp_path / "stopped", stop=False).items():
        if not name.endswith("items"):  # neighbours that are equally near
            torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-3)


def test_trained_on_a_gpu_and_served_by_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASERREC_CACHE", str(tmp_path / "cache"))
    laser = Laser.fit(small_shop.dataset(), small_shop.config(small_shop.write_llm(tmp_path / "llm")), device="cuda")
    assert laser.device == CUDA
    laser.save(tmp_path / "model")
    here = Laser.load(tmp_path / "model", device="cpu").recommend([["tent", "bag"]], 12)[0]
    found = {item.item_id: item.score for item in laser.recommend([["tent", "bag"]], 12)[0]}
    assert {item.item_id: item.score for item in here} == pytest.approx(found, abs=1e-3)
