"""Looking for the best items in bfloat16 first: nothing that is among the best is lost, and ties stay ties."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from held import Held
from torch import Tensor

from laserrec import ranking
from laserrec.errors import TrainingError
from laserrec.nn.products import Near, near_products_with
from laserrec.ranking import top_k

ROWS, WIDTH = 130, 256
OFF = 0.5
"""What products may be off by in the tests that do not need a processor with bfloat16."""


def noisy(vectors: Tensor) -> Callable[[Tensor], Near]:
    """Give products that are off by as much as is told, upwards or downwards at random."""
    generator = torch.Generator().manual_seed(1)

    def multiply(matrix: Tensor) -> Near:
        exact = matrix @ vectors.T
        signs = torch.randint(0, 2, exact.shape, generator=generator) * 2 - 1
        return Near((exact + OFF * signs).bfloat16(), torch.full((len(vectors),), OFF * 1.0001))

    return multiply


@pytest.fixture(params=["noisy", "the processor's"])
def near(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Chunks that were looked through in bfloat16."""
    make: Callable[[Tensor], Callable[[Tensor], Near] | None] = noisy if request.param == "noisy" else near_products_with
    if make(torch.ones(ROWS, WIDTH)) is None:
        pytest.skip("this processor has no instructions for bfloat16")
    looked: list[Tensor] = []

    def counting(vectors: Tensor) -> Callable[[Tensor], Near]:
        multiply = make(vectors)
        assert multiply is not None

        def counted(matrix: Tensor) -> Near:
            looked.append(matrix)
            return multiply(matrix)

        return counted

    monkeypatch.setattr(ranking, "near_products_with", counting)
    return looked


def drawn(items: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, WIDTH, generator=generator), torch.randn(items, WIDTH, generator=generator)


@pytest.mark.parametrize("k", [1, 10, 60])
def test_lists_are_those_of_exact_products(near: list[Tensor], k: int) -> None:
    queries, matrix = drawn(60_017)
    exact = (queries.double() @ matrix.double().T).sort(dim=1, descending=True)
    found = top_k(queries, matrix, k)
    assert near
    assert found.items.equal(exact.indices[:, :k])
    assert found.scores.double() == pytest.approx(exact.values[:, :k], rel=1e-5)


def test_items_that_are_left_out_stay_out(near: list[Tensor]) -> None:
    queries, matrix = drawn(30_000)
    exact = (queries.double() @ matrix.double().T).sort(dim=1, descending=True)
    items = exact.indices[:, :40]
    mask = torch.rand(items.shape, generator=torch.Generator().manual_seed(2)) < 0.7
    mask[:, 30:] = False
    expected = torch.stack([row[~struck][:10] for row, struck in zip(items, mask, strict=True)])
    assert top_k(queries, matrix, 10, items=items, mask=mask).items.equal(expected)
    assert near


def test_copies_tie_whichever_way_they_are_found(near: list[Tensor]) -> None:
    # An item of the first chunk, which is multiplied exactly, and its copies in later ones.
    queries, matrix = drawn(40_000)
    copies = matrix[:2_000].repeat(10, 1)
    matrix = torch.cat([matrix[:2_000], matrix[2_000:] * 0.5, copies])
    found = top_k(queries, matrix, 22)
    assert near
    best = top_k(queries, matrix[:2_000], 2).items
    assert found.items[:, :11].equal(torch.cat([best[:, :1], best[:, :1] + 40_000 + torch.arange(10) * 2_000], dim=1))
    assert found.items[:, 11:].equal(torch.cat([best[:, 1:], best[:, 1:] + 40_000 + torch.arange(10) * 2_000], dim=1))
    assert (found.scores[:, :11] == found.scores[:, :1]).all()


@pytest.mark.parametrize("kind", ["equal", "rising", "nothing"])
def test_where_too_many_may_be_among_the_best_it_is_seldom_tried(near: list[Tensor], kind: str) -> None:
    queries, matrix = torch.ones(ROWS, WIDTH), torch.ones(80_000, WIDTH)
    if kind == "rising":
        matrix *= torch.arange(80_000.0)[:, None] / 80_000
    elif kind == "nothing":
        matrix.zero_()
    expected = list(range(79_999, 79_994, -1)) if kind == "rising" else list(range(5))
    assert top_k(queries, matrix, 5).items.tolist() == [expected] * ROWS
    assert len(near) <= 4  # of twenty chunks: the second, the fourth, the seventh, the twelfth


def test_what_cannot_be_ranked_is_refused(near: list[Tensor]) -> None:
    queries, matrix = drawn(30_000)
    matrix[20_000, 3] = torch.nan
    with pytest.raises(TrainingError, match="history 0 hold NaN"):
        top_k(queries, matrix, 3)
    assert near


@pytest.mark.parametrize("memory", [2**20, 2**23, 2**24, 2**26])
def test_it_takes_only_memory_that_is_left(near: list[Tensor], memory: int) -> None:
    queries, matrix = drawn(30_000)
    with Held(queries, matrix) as held:
        found = top_k(queries, matrix, 10, memory_bytes=memory)
    assert bool(near) == (memory == 2**26)
    assert near or held.peak - sum(part.nbytes for part in found) <= memory


@pytest.mark.parametrize("memory", [2**23, 2**24, 2**26])
def test_the_processors_own_stays_within_it(memory: int) -> None:
    queries, matrix = drawn(30_000)
    if near_products_with(queries) is None:
        pytest.skip("this processor has no instructions for bfloat16")
    with Held(queries, matrix) as held:
        found = top_k(queries, matrix, 10, memory_bytes=memory)
    assert held.peak - sum(part.nbytes for part in found) <= memory


@pytest.mark.parametrize("kind", ["random", "halves", "short", "long", "one sign"])
def test_the_processors_products_are_off_by_no_more_than_they_say(kind: str) -> None:
    queries, matrix = drawn(4_096)
    if kind == "halves":  # each half way between two numbers of bfloat16, rounded the same way: as far off as can be
        queries, matrix = (torch.full_like(part, 1 + 2**-8) * (1 - 2**-20) for part in (queries, matrix))
    elif kind == "short":
        queries, matrix = queries * 1e-17, matrix * 1e17
    elif kind == "long":
        queries = queries * torch.logspace(-12, 12, WIDTH)
    elif kind == "one sign":
        queries, matrix = queries.abs(), matrix.abs()
    multiply = near_products_with(queries)
    if multiply is None:
        pytest.skip("this processor has no instructions for bfloat16")
    found = multiply(matrix)
    exact = matrix.double() @ queries.double().T
    assert (found.products >= (exact - found.margin.double()).float().bfloat16()).all()
    assert (found.products <= (exact + found.margin.double()).float().bfloat16()).all()
    if kind in {"random", "one sign"}:  # it is of some use: about a hundredth of the product of the lengths
        assert (found.margin < 0.01 * queries.norm(dim=1) * matrix.norm(dim=1).max()).all()
