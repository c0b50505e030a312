"""One measuring process: one contender in one row, in an interpreter of its own."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback


def main() -> None:
    """Answer the question named on the command line, and end without waiting for anybody."""
    parser = argparse.ArgumentParser()
    parser.add_argument("row")
    parser.add_argument("contender")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()

    from bench.loop.contenders import CONTENDERS
    from bench.loop.rows import ROWS
    from bench.loop.rows.base import Unavailable

    status = 0
    try:
        ROWS[arguments.row].run(CONTENDERS[arguments.contender], arguments.quick)
    except Unavailable as reason:
        print(json.dumps({"note": str(reason)}))
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Some loops leave threads that never end.
    os._exit(status)


if __name__ == "__main__":
    main()
