"""`python -m laserrec` is the command `laserrec`."""

import os
import sys

import laserrec

# Python puts the working folder first on the path. A `polars.py` that lies there, beside a downloaded table, must not be imported.
if sys.path[0] == os.getcwd() and os.path.dirname(os.path.dirname(os.path.abspath(laserrec.__file__))) != sys.path[0]:
    del sys.path[0]

from laserrec.cli import main

main()
