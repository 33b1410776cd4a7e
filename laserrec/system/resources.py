"""Measure memory and disk: what is free, what this process has, and the most it had."""

from __future__ import annotations

import os
import resource
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import torch

from laserrec.system.devices import CPU

# Of each version of Linux' control groups, by what /proc/self/cgroup calls it: where they are, and the files and the statistic that tell
# the limit, what is taken, and how much of that the system gives up when asked.
CONTROL_GROUPS = {
    "": ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def available_memory(device: torch.device = CPU, root: Path = Path("/")) -> int:
    """Return the bytes of memory that programs may still take.

    Args:
        device: a CUDA device has its own; for the others it is that of this machine, or of this container where that is less.
        root: where the system's files `proc` and `sys` are.
    """
    if device.type == "cuda":
        # What torch has taken from the device and keeps for later is free, too.
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    free = os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    return min([free, *_left_in_groups(root)])


def _left_in_groups(root: Path) -> Iterator[int]:
    """Yield the bytes that each control group of this process, and each of those around it, still allows."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        version = "memory" if "memory" in controllers.split(",") else controllers
        if version not in CONTROL_GROUPS:
            continue
        mount, limit, used, reclaimable = CONTROL_GROUPS[version]
        # A container often sees its own group as the mount's root, under a path that only the host has.
        inner = root / mount / path.lstrip("/")
        for group in (inner, *inner.parents[: len(Path(path.lstrip("/")).parts)]):
            most, taken = (_lines(group / name)[:1] for name in (limit, used))
            if most and taken and most[0].isdecimal():
                statistics = dict(line.split() for line in _lines(group / "memory.stat"))
                # What files were read or written lately fills the group up to its limit, and gives way to whoever needs memory.
                yield max(int(most[0]) - int(taken[0]) + int(statistics.get(reclaimable, 0)), 0)


def _lines(path: Path) -> list[str]:
    """Return a file's lines; none when this system has no such file."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


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
