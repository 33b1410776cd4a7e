"""Run the benchmarks one after the other and keep what each prints as results/LABEL-NAME.json."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
NAMES = ("train", "items", "rank", "serve", "data")
OWN_THREADS = ("serve", "data")
"""The first asks for one core by itself, the last is not torch's."""


def main() -> int:
    """Run what the command line names; return 1 if one of them failed."""
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__, epilog="What follows -- goes to each benchmark.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"among {', '.join(NAMES)}; all of them when none is named")
    parser.add_argument("--label", default="here", help="what the results' names begin with")
    parser.add_argument("--threads", type=int, help="threads, but for those that choose their own")
    chosen = parser.parse_args(words[:end])
    unknown = set(chosen.names) - set(NAMES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(NAMES)}")
    failed = [name for name in chosen.names or NAMES if not _run(name, chosen.label, chosen.threads, words[end + 1 :])]
    return 1 if failed else 0


def _run(name: str, label: str, threads: int | None, passed: list[str]) -> bool:
    words = [] if threads is None or name in OWN_THREADS else ["--threads", str(threads)]
    command = [sys.executable, "-m", "benchmarks.speed", name, "--json", *words, *passed]
    ran = subprocess.run(command, cwd=RESULTS.parents[1], stdout=subprocess.PIPE, text=True, check=False)
    if ran.returncode:
        return False
    found = json.loads(ran.stdout)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{label}-{name}.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)
    for target in found["targets"]:
        verdict = {True: "met", False: "missed", None: ""}[target["met"]]
        sys.stdout.write(f"{name}: {target['what']}: {target['median']:.4g} {target['unit']} {verdict}\n")
    sys.stdout.flush()
    return True


if __name__ == "__main__":
    sys.exit(main())
