"""Gradients of the query experts are sums in one order, whatever the number of threads: a resumed run depends on it."""

from __future__ import annotations

import torch

from laserrec.laser.experts import QueryExperts, Routing


def test_rows_of_one_expert_are_always_added_in_the_same_order() -> None:
    # Of a size that torch divides between threads; with two of them, indexing gives several sums.
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.manual_seed(0)
        experts, chosen = QueryExperts(4, 4, 128, "paper"), torch.randint(4, (64,))
        routing, outer = Routing(chosen, torch.ones(64), torch.zeros(()), torch.zeros(4)), torch.randn(64, 4, 128)
        found = set()
        for _ in range(200):
            experts.tokens.grad = None
            experts(routing).backward(outer)
            assert experts.tokens.grad is not None
            found.add(experts.tokens.grad.numpy().tobytes())
        assert len(found) == 1
    finally:
        torch.set_num_threads(threads)
