"""`python -m simdist` is `simdist`."""

import sys
from pathlib import Path

# `python -m` looks for modules in the working folder first, where a numpy.py may lie that is none.
if not sys.flags.safe_path and Path(__file__).parents[1] != Path.cwd():
    del sys.path[0]

from simdist.cli.main import main

if __name__ == "__main__":
    main()
