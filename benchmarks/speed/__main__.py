"""`python -m benchmarks.speed`: run from the root of a checkout."""

from benchmarks.speed.cli import main

main()
