"""Where tensors lie and are computed with: the machine's processor or one of its GPUs.

A device is a fact of a machine and of a call. No settings name one, and no folder remembers one: what is trained on one device is read on
any other.
"""

from __future__ import annotations

import torch

from laserrec.errors import ConfigError

CPU = torch.device("cpu")


def choose(name: str | torch.device | None = None) -> torch.device:
    """Return a device of this machine.

    Args:
        name: `cpu`, `cuda` (its first one), `cuda:1` or `mps`; None for the first CUDA device, or the CPU where there is none.

    Raises:
        ConfigError: this machine has no such device.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    asked, here = {"cuda": "cuda:0", "mps:0": "mps"}.get(str(name), str(name)), available()
    if asked not in here:
        raise ConfigError(
            f"Received the device {str(name)!r}; this machine has {', '.join(here)}. Name one of these, or none to have it chosen. "
            f"A GPU that is not among them needs its driver and a torch that was built for it; here is torch {torch.__version__}."
        )
    return torch.device(asked)


def available() -> list[str]:
    """Return the names of this machine's devices, the CPU first."""
    return [
        "cpu",
        *(f"cuda:{number}" for number in range(torch.cuda.device_count())),
        *(["mps"] if torch.backends.mps.is_available() else []),
    ]


def describe(device: torch.device) -> str:
    """Return a device's name for a record, with that of the product where it has one."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def wait() -> None:
    """Wait until GPUs have done what they were given: they are given work without waiting for its end, so a clock would stop too early."""
    if torch.cuda.is_initialized():
        for number in range(torch.cuda.device_count()):
            if torch.cuda.memory_reserved(number):  # those that this process uses
                torch.cuda.synchronize(number)
    elif torch.backends.mps.is_available():
        torch.mps.synchronize()
