"""Measure memory and disk: what is free, what this process has, and the most it had."""

from __future__ import annotations

import resource
import shutil
import sys
import threading
from pathlib import Path
from types import TracebackType

import torch

from laserrec.system.devices import CPU
from laserrec.system.memory import free_memory


def available_memory(device: torch.device = CPU, root: Path = Path("/")) -> int:
    """Return the bytes of memory that programs may still take.

    Args:
        device: a CUDA device has its own; for the others it is that of this machine, or of this container where that is less.
        root: where the system's files `proc` and `sys` are.
    """
    if device.type == "cuda":
        # What torch has taken from the device and keeps for later is free, too.
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free_memory(root)


LOOK_SECONDS = 0.002


class MemoryPeak:
    """Looks at the process's memory every few milliseconds while it is entered; the system keeps only an all-time peak.

    Attributes:
        grown: by how much the most that was seen exceeds what was there at the beginning, in bytes.
        highest: the most that the process had meanwhile, in bytes: the system's own peak where that rose, else the most that was seen.
    """

    def __init__(self, device: torch.device = CPU, *, seldom: float = LOOK_SECONDS) -> None:
        """Look at the memory of a device.

        Args:
            device: whose memory.
            seldom: seconds between two looks at most; they grow to it, so that what is long is not slowed down.
        """
        self._device, self._seldom = device, seldom

    def __enter__(self) -> MemoryPeak:
        self._began, self._ever, self.grown = resident_memory(self._device), peak_memory(self._device), 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        self._note()
        reached = peak_memory(self._device)
        self.highest = reached if reached > self._ever else self._began + self.grown

    def _look(self) -> None:
        pause = LOOK_SECONDS
        while not self._ended.wait(pause):
            self._note()
            pause = min(1.1 * pause, self._seldom)

    def _note(self) -> None:
        self.grown = max(self.grown, resident_memory(self._device) - self._began)


def resident_memory(device: torch.device = CPU) -> int:
    """Return the bytes of a device's memory that this process has now; where the system does not tell, the most it ever had."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except OSError:
        return peak_memory()


def peak_memory(device: torch.device = CPU) -> int:
    """Return the most bytes of a device's memory that this process ever had."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder; 0 when there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def free_bytes(folder: Path) -> int:
    """Return the bytes that are free on the disk where a folder is, or would be made."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
