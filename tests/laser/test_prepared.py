"""A system that is prepared for scoring scores as the one that it was made from."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch

KNOWN = torch.tensor([item not in (2, 7) for item in range(len(tiny.ITEMS))])


@pytest.mark.parametrize(
    "score", [{}, {"fuse_collaborative": False}, {"seen_penalty": False}, {"standardise": False, "linear_read_out": False}]
)
def test_scores_are_those_of_the_system(score: dict[str, Any]) -> None:
    system = tiny.system(tiny.config(score=score), known=KNOWN)
    tiny.liven(system.model)
    case = tiny.batch([[0, 1, 1], [2, 7], [9, 8, 7, 6, 5, 4, 3]], fill=3)
    expected, found = system.scores(*case), system.prepared().scores(*case)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert not found.requires_grad


def test_it_stays_as_it_was_made() -> None:
    system = tiny.system()
    case = tiny.batch([[0, 1], [3]])
    system.model.train()
    prepared = system.prepared()
    assert not system.model.training
    before = prepared.scores(*case)
    assert prepared.scores(*case).equal(before)
    system.model.item_states.normal_()
    assert prepared.scores(*case).equal(before)
    assert not torch.allclose(system.prepared().scores(*case), before)
