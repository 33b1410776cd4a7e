"""`--device`: every command that computes takes it, and refuses one that this machine does not have before anything is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]
COMMANDS = (
    "train --data data --out new",
    "baseline popularity --data data --out new",
    "tune sasrec --data data --out new",
    "demo --out new",
    "evaluate run",
    "recommend run --user anna",
    "report run --out new",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_device_that_is_not_here(laserrec: Run, shop: Path, command: str) -> None:
    code, out, err = laserrec(*command.split(), "--device", "cuda:7")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("error: Received the device 'cuda:7'; this machine has cpu")
    assert not (shop / "new").exists()


@pytest.mark.parametrize("command", ["recommend run --user anna", "baseline item-knn last-text --data data --out new"])
def test_a_device_that_is_here(laserrec: Run, command: str) -> None:
    code, out, _ = laserrec(*command.split(), "--device", "cpu", *(["--config", "laser.toml"] if "baseline" in command else []))
    assert code == 0
    assert out
