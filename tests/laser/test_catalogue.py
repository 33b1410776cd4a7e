"""A catalogue looks items up by the caller's ids, and forgets those that are removed."""

from __future__ import annotations

import pytest
import tiny
import torch

from laserrec.errors import UnknownIdError
from laserrec.laser.system import LaserSystem

IDS = [f"i{place}" for place in range(len(tiny.ITEMS))]


def serving() -> LaserSystem:
    known = torch.arange(len(tiny.ITEMS)) < 10
    return tiny.system(known=known).serving(IDS)


def test_ids_and_titles() -> None:
    catalogue = serving().catalogue
    assert (len(catalogue), list(catalogue.index)) == (12, IDS)
    assert catalogue.find("i3") == 3
    assert catalogue.title(3) == tiny.ITEMS[3]["title"]
    with pytest.raises(UnknownIdError, match="'i33'"):
        catalogue.find("i33")


def test_the_next_catalogue_leaves_the_one_before_as_it_is() -> None:
    first = serving()
    case = tiny.batch([[0, 11], [3]])
    before, tables = first.scores(*case), {name: table.clone() for name, table in first.catalogue.tables().items()}
    grown = first.with_items({"new": {"title": "Canoe"}, "newer": {"title": "Kayak"}})
    changed = grown.with_changes({"i3": {"title": "Other"}, "new": {"title": "Oar"}})
    fewer = changed.without_items(["i4", "new"])
    assert torch.equal(first.scores(*case), before)
    assert all(torch.equal(table, tables[name]) for name, table in first.catalogue.tables().items())
    assert [len(system.catalogue) for system in (first, grown, changed, fewer)] == [12, 14, 14, 13]
    # One that was trained on keeps its index, one that came later leaves none.
    assert (fewer.catalogue.find("i5"), fewer.catalogue.find("newer")) == (5, 12)
    assert fewer.catalogue.removed.nonzero()[:, 0].tolist() == [4]
    assert fewer.catalogue.texts.items[4] == {}
    torch.testing.assert_close(grown.scores(*case)[:, :12], before)
    # Cold items for which the removed one spoke are scored by the next one.
    lost = (changed.collaborative.nearest_warm == 4).any(1).nonzero()[:, 0] + 10
    kept = [item for item in range(14) if item not in (4, 12, *lost.tolist())]
    torch.testing.assert_close(fewer.scores(*case)[:, [item - (item > 12) for item in kept]], changed.scores(*case)[:, kept])
