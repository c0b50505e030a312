"""Stamps what is written to a descriptor, in a process of its own.

A thread of the measuring process could not say when something was written: while the GIL is held,
it would not run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass

from bench.harness.turns import ROOT


@dataclass(frozen=True)
class Stamp:
    """A line, and when it came."""

    at: float
    text: str


class Stamps:
    """A descriptor whose lines are stamped."""

    def __init__(self) -> None:
        reading, self.descriptor = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.watch.watchers.stamps"],
            cwd=ROOT,
            stdin=reading,
            stdout=subprocess.PIPE,
        )
        os.close(reading)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def finish(self) -> list[Stamp]:
        """Close the descriptor, and return what was written to it."""
        os.close(self.descriptor)
        written, _ = self._process.communicate()
        return [Stamp(**json.loads(line)) for line in written.splitlines()]


def main() -> None:
    """Stamp the lines of the standard input until it ends, show them as they are, and tell."""
    print("ready", flush=True)
    stamps = []
    for line in sys.stdin.buffer:
        stamps.append((time.monotonic(), line.decode(errors="replace")))
        sys.stderr.write(stamps[-1][1])
    for at, text in stamps:
        print(json.dumps({"at": at, "text": text}))


if __name__ == "__main__":
    main()
