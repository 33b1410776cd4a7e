"""With what and where something was computed: versions, commit, machine, command; every record that a figure may be taken from holds it."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from laserrec import __version__
from laserrec.system.devices import available, describe

LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "polars")
"""Whose versions are noted."""


def environment() -> dict[str, Any]:
    """Return what this machine runs a model with: versions, the commit of a checkout, system, processors."""
    versions = {name: metadata.version(name) for name in LIBRARIES}
    about = {
        "python": platform.python_version(),
        "commit": commit(),
        **versions,
        "system": platform.platform(),
        "processors": os.cpu_count(),
    }
    return {name: value for name, value in about.items() if value is not None}


def provenance(command: Sequence[str] | None = None) -> dict[str, Any]:
    """Return when, how, with what and on what machine something was computed.

    Args:
        command: the command line's words; those of this process, as `laserrec …`, when None.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(command or ["laserrec", *sys.argv[1:]]),
        "laserrec": __version__,
        "commit": commit(),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "devices": [describe(torch.device(name)) for name in available()],
            "memory_gib": _memory(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": metadata.version("transformers"),
        },
    }


@lru_cache
def commit(root: Path = Path(__file__).parents[1]) -> str | None:
    """Return the commit that a checkout stands at, ending in `-dirty` where tracked files differ; None where `root` is no checkout."""
    if not (root / ".git").exists():
        return None
    words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):  # no git here, or one that does not trust the folder: a record goes without
        return None
    return done.stdout.strip()


def _processor() -> str:
    """Return the processor's name; the kernel's where it tells one, with the family and model that hypervisors leave."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine()
    fields = dict(line.partition(":")[::2] for line in info.read_text().split("\n\n")[0].splitlines())
    known = {key.strip(): value.strip() for key, value in fields.items()}
    return f"{known.get('model name', platform.machine())} (family {known.get('cpu family', '?')}, model {known.get('model', '?')})"


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None
