"""Tables of a catalogue that changes: every version against plain tensors that are copied at each step."""

from __future__ import annotations

import random

import pytest
import torch
from torch.nn.functional import normalize

from laserrec.layers.living_neighbours import LivingNeighbours
from laserrec.layers.neighbours import COUNT, Neighbours
from laserrec.layers.rows import Column, Rows


def test_two_versions_that_go_on_from_one_do_not_meet() -> None:
    first = Column.of(torch.tensor([1.0, 2.0])).with_room(2)
    one, other = first.followed_by(torch.tensor([3.0])), first.followed_by(torch.tensor([4.0, 5.0, 6.0]))
    further = one.followed_by(torch.tensor([7.0]))
    assert [part.seen.tolist() for part in (first, one, other, further)] == [[1, 2], [1, 2, 3], [1, 2, 4, 5, 6], [1, 2, 3, 7]]
    assert one.seen.data_ptr() == first.seen.data_ptr() == further.seen.data_ptr() != other.seen.data_ptr()


@pytest.mark.parametrize("seed", range(5))
def test_every_version_of_a_table_stays_as_it_was(seed: int) -> None:
    drawn, numbers = random.Random(seed), torch.Generator().manual_seed(seed)
    plain = torch.randn(6, 3, generator=numbers)
    versions = [(Rows.of(plain), plain)]
    for _ in range(60):
        rows, plain = versions[-1] if drawn.random() < 0.9 else drawn.choice(versions)
        if drawn.random() < 0.3 and len(plain) > 3:
            order = torch.tensor(sorted(drawn.sample(range(len(plain)), len(plain) - 1)))
            versions.append((rows.take(order), plain[order]))
            continue
        new, changed = drawn.randrange(3), drawn.sample(range(len(plain)), drawn.randrange(3))
        where = torch.tensor([*range(len(plain), len(plain) + new), *changed], dtype=torch.int64)
        values, after = torch.randn(len(where), 3, generator=numbers), torch.cat([plain, torch.zeros(new, 3)])
        after[where] = values
        versions.append((rows.with_rows(where, values, len(after)), after))
    for rows, plain in versions:
        assert torch.equal(rows.table, plain)
        assert torch.equal(rows[torch.tensor([2, 0])], plain[[2, 0]])
        torch.testing.assert_close(rows.times(plain[:2]), plain[:2] @ plain.T)


def by_rule(weights: torch.Tensor, vectors: torch.Tensor, live: list[bool], changed: list[int]) -> torch.Tensor:
    """Place items in a dense table, row by row: what `placed` promises, by a plain loop."""
    count = len(vectors)
    near = (10 * (vectors @ vectors.T - 1)).exp()
    after = torch.zeros(count, count)
    after[: len(weights), : len(weights)] = weights
    after[changed], after[:, changed] = 0.0, 0.0
    for item in range(count):
        others = [other for other in range(count) if other != item and live[other]]
        if item in changed:
            best = sorted(others, key=lambda other: -float(near[item, other]))[:COUNT]
            after[item, best] = near[item, best]
        elif live[item]:
            come = [other for other in changed if other != item]
            both = torch.cat([after[item], near[item, come], torch.zeros(COUNT)])  # free places count as 0
            after[item, come] = near[item, come] * (near[item, come] >= both.sort(descending=True).values[COUNT - 1])
    return after


@pytest.mark.parametrize(("count", "steps"), [(8, 40), (COUNT + 20, 12)])
def test_neighbours_of_a_catalogue_that_changes_are_those_of_a_plain_loop(count: int, steps: int) -> None:
    drawn, numbers = random.Random(count), torch.Generator().manual_seed(count)
    vectors = normalize(torch.randn(count, 3, generator=numbers), dim=1)
    table = Neighbours(count, 0.1)
    table.find(vectors)
    living, live = LivingNeighbours(table), [True] * count
    weights = torch.zeros(count, count).scatter_add_(1, table.items.long(), table.weights)
    folded = 0
    for _ in range(steps):
        versions = living, living.items.clone(), living.weights.clone()
        if drawn.random() < 0.3 and sum(live) > 4:
            gone = drawn.choice([item for item in range(len(live)) if live[item]])
            kept = [item for item in range(len(live)) if item != gone or item < count]  # the first ones keep their index
            live[gone] = False
            live = [live[item] for item in kept]
            vectors, weights = vectors[kept], weights[kept][:, kept]
            dead = torch.tensor([not alive for alive in live])
            weights[dead], weights[:, dead] = 0.0, 0.0
            living = living.take(torch.tensor(kept), ~dead)
        else:
            new = drawn.randrange(1, 4)
            changed = drawn.sample([item for item in range(len(live)) if live[item]], drawn.randrange(2))
            where = [*range(len(live), len(live) + new), *changed]
            vectors = torch.cat([vectors, torch.zeros(new, 3)])
            vectors[where], live = normalize(torch.randn(len(where), 3, generator=numbers), dim=1), [*live, *[True] * new]
            weights, before = by_rule(weights, vectors, live, where), living.numbers
            living = living.placed(lambda part, now=vectors: now[part] @ now.T, torch.tensor(where), torch.tensor(live))
            folded += living.numbers < before + len(where)
        items, found = living.table()
        dense = torch.zeros(len(live), len(live)).scatter_add_(1, items.long(), found)
        torch.testing.assert_close(dense, weights, rtol=1e-4, atol=1e-6)
        asked = drawn.sample([item for item in range(len(live)) if live[item]], 2)
        expected = torch.log1p((weights[asked[1]] + 0.85 * weights[asked[0]]) / 0.1)
        expected[asked] = 0.0
        scores = living.scores(torch.tensor([asked]), torch.ones(1, 2, dtype=torch.bool))[0]
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(versions[0].items, versions[1])
        assert torch.equal(versions[0].weights, versions[2])
    assert folded
