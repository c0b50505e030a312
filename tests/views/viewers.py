"""Programs that are looked at, and what looks at them by the private socket."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 30.0


class Viewer:
    """A connection to the private socket of a program."""

    def __init__(self, path: str | Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_SECONDS)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self._lines = self.socket.makefile("rb")

    def send(self, line: bytes) -> None:
        """Ask, in any words."""
        self.socket.sendall(line)

    def line(self) -> bytes:
        """The next answer as it comes; empty at the end."""
        return self._lines.readline()

    def ask(self, **question: Any) -> Any:
        """The answer to a question."""
        self.send(json.dumps({"version": 1, **question}).encode() + b"\n")
        return json.loads(self.line())

    def document(self, after: int = 0) -> Any:
        """The document now."""
        return self.ask(ask="document", after=after)

    def document_when(self, is_so: Any) -> Any:
        """The first document of which something is so."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not is_so(document := self.document()):
            assert time.monotonic() < until, json.dumps(document)[:4000]
        return document

    def close(self) -> None:
        """Leave."""
        self._lines.close()
        self.socket.close()

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Running:
    """A program under ``offloop run``, which is told to go on by lines."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process = process
        self.path = folder / f"offloop-{process.pid}.sock"

    def heard(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, line: str = "") -> None:
        """Have it go on."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()


@contextmanager
def running(source: str, folder: Path, *options: str) -> Iterator[Running]:
    """A program that runs until the block ends."""
    folder.chmod(0o700)
    script = folder / "program.py"
    script.write_text(source)
    with (folder / "stderr.txt").open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "offloop", "run", "--no-report", *options, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=folder,
            env={**os.environ, "XDG_RUNTIME_DIR": str(folder)},
        )
    try:
        yield Running(process, folder)
    finally:
        process.kill()
        process.communicate()
