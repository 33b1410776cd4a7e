"""`python -m laserrec` is the command `laserrec`."""

from laserrec.cli import main

main()
