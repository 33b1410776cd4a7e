"""A whole Laser on another device than the CPU computes what it computes there, forward and backward, in every arrangement."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tiny
import torch
from pairs import KINDS, ROWS, SECTIONS, Pair, batch, gradients, trained
from torch import Tensor
from torch.testing import assert_close


def same(found: Tensor, expected: Tensor) -> None:
    assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("variant", [*SECTIONS, *KINDS])
def test_forward_and_backward(elsewhere: torch.device, variant: str) -> None:
    pair = Pair(variant, elsewhere)
    expected, found = map(gradients, pair)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        same(found[name], gradient)
    same(pair.there.scores(*batch(elsewhere)), pair.here.scores(*batch(pair.here.device)))


def test_refresh_requests_and_new_items(elsewhere: torch.device) -> None:
    pair = Pair("text_first", elsewhere)
    ids = [str(place) for place in range(len(tiny.ITEMS))]
    for laser in pair:
        laser.refresh()
    pair.here, pair.there = (
        laser.serving(ids).with_items({"stapler": {"title": "Stapler"}, "lamp": {"title": "Oak lamp"}}).without_items(["3"])
        for laser in pair
    )
    for name, tensor in pair.here.catalogue.tables().items():
        same(pair.there.catalogue.tables()[name].float(), tensor.float())
    here, there = (laser.scores(*batch(laser.device)) for laser in pair)
    assert here.shape == (len(ROWS), len(tiny.ITEMS) + 2)
    same(there, here)
    here_experts, there_experts = (laser.experts(*batch(laser.device)) for laser in pair)
    assert here_experts is not None
    assert there_experts is not None
    assert there_experts.tolist() == here_experts.tolist()
    for found, expected in zip(*(laser.score_terms(*batch(laser.device)) for laser in reversed(list(pair))), strict=True):
        same(found, expected)


def test_a_fit_is_resumed_there_bit_for_bit_and_here_nearly_so(elsewhere: torch.device, tmp_path: Path) -> None:
    expected = trained(Pair("text_first", elsewhere).there, tmp_path / "whole", stop=False)
    trained(Pair("text_first", elsewhere).there, tmp_path / "there", stop=True)
    shutil.copytree(tmp_path / "there", tmp_path / "here")
    found = trained(Pair("text_first", elsewhere).there, tmp_path / "there", stop=False)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    for name, tensor in trained(Pair("text_first", elsewhere).here, tmp_path / "here", stop=False).items():
        if not name.endswith("items"):  # neighbours that are equally near
            assert_close(tensor, expected[name], rtol=0.02, atol=0.02)
