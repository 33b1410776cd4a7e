"""Which device a name means here, and that the pretended one is as strict as a real one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from elsewhere import Distant
from torch import Tensor, nn

from laserrec.errors import ConfigError
from laserrec.system import devices
from laserrec.system.devices import CPU, available, choose, describe


def with_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(("gpus", "name", "expected"), [
    (0, None, "cpu"), (0, "cpu", "cpu"), (0, CPU, "cpu"), (2, None, "cuda:0"), (2, "cuda", "cuda:0"), (2, "cuda:1", "cuda:1"),
    (2, torch.device("cuda"), "cuda:0"), (2, "cpu", "cpu"),
])  # fmt: skip
def test_a_name(monkeypatch: pytest.MonkeyPatch, gpus: int, name: str | torch.device | None, expected: str) -> None:
    with_gpus(monkeypatch, gpus)
    assert choose(name) == torch.device(expected)


@pytest.mark.parametrize(("gpus", "name"), [(0, "cuda"), (1, "cuda:1"), (1, "gpu"), (1, ""), (0, "mps"), (0, "cpu:1")])
def test_what_is_not_here_is_answered_with_what_is(monkeypatch: pytest.MonkeyPatch, gpus: int, name: str) -> None:
    with_gpus(monkeypatch, gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    here = ", ".join(["cpu", "cuda:0"][: gpus + 1])
    with pytest.raises(ConfigError, match=rf"Received the device '{name}'; this machine has {here}\. Name one of these.* torch \d"):
        choose(name)


def test_apple_s_is_used_when_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert available() == ["cpu", "mps"]
    assert (choose("mps"), choose()) == (torch.device("mps"), CPU)


def test_a_record_names_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Card {device.index}")
    assert describe(torch.device("cuda:1")) == "cuda:1 (Card 1)"
    assert describe(CPU) == "cpu"
    devices.wait()  # nothing to wait for


def test_elsewhere_is_elsewhere(elsewhere: torch.device) -> None:
    there = torch.arange(6.0, device=elsewhere).view(2, 3)
    there[0] = 7
    assert there.device == elsewhere
    assert (there + torch.tensor(1.0)).cpu().tolist() == [[8, 8, 8], [4, 5, 6]] == (there + 1).tolist()
    assert torch.zeros(2).copy_(there[:, 0]).tolist() == [7, 3]
    layer = nn.Linear(3, 1, bias=False).to(elsewhere)
    layer(there).sum().backward()
    assert isinstance(layer.weight, Distant)
    assert layer.weight.grad is not None
    assert layer.weight.grad.tolist() == [[10, 11, 12]]


@pytest.mark.parametrize("slip", [
    lambda there: there + torch.ones(3),
    lambda there: torch.ones(2, 3) * there.sum(),
    lambda there: there[torch.tensor([0])],
    lambda there: torch.cat([there, torch.zeros(1, 3)]),
    lambda there: torch.zeros(2, 3).index_put_((torch.tensor([0]),), there[0]),
    lambda there: nn.Linear(3, 1)(there),
    lambda there: there.numpy(),
])  # fmt: skip
def test_a_slip_is_found(elsewhere: torch.device, slip: Callable[[Tensor], object]) -> None:
    with pytest.raises(RuntimeError, match=r"CPU|numpy"):
        slip(torch.ones(2, 3, device=elsewhere))
