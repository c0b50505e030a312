"""``python -m offloop``: the same command line as the ``offloop`` script."""

import os
import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    try:
        os.getcwd()
    except FileNotFoundError:
        # Then ``python -m`` puts nothing in front of the path, where we expect an entry of ours.
        sys.path.insert(0, "")

from offloop.cli import main

if __name__ == "__main__":
    main(prog_name="offloop")
