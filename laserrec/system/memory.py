"""Memory that is free, of this machine or of the container around it. Knows nothing of other devices, so that it loads no torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Of each version of Linux' control groups, by what /proc/self/cgroup calls it: where they are, and the files and the statistic that tell
# the limit, what is taken, and how much of that the system gives up when asked.
CONTROL_GROUPS = {
    "": ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    "memory": ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def free_memory(root: Path = Path("/")) -> int:
    """Return the bytes of memory that programs may still take.

    Args:
        root: where the system's files `proc` and `sys` are.
    """
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
