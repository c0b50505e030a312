"""One turn: a contender is asked a row's question once, in fresh processes inside a time bound.

There are two ways to answer. A process says its numbers on its standard output, one JSON object in
each line; or, where it starts workers that share its output, writes its samples to a file, so that
a turn that hangs or dies keeps what it had shown until then.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.harness.accounts import TOKEN, kill_all
from bench.harness.results import Cells, take
from bench.harness.rows import Contender, Row

ROOT = Path(__file__).resolve().parents[2]

#: How long what a turn has left is killed again and again.
_END_SECONDS = 10
_CHUNK_BYTES = 4096


class Failure(Exception):
    """A turn without numbers: a word for the table, and the last line of the error."""

    def __init__(self, word: str, error: str = "") -> None:
        super().__init__(word, error)
        self.word = word
        self.error = error


class Process:
    """A process of a turn."""

    def __init__(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        self._process = process
        self._deadline = deadline
        self._held = b""

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def bind(self, core: int) -> None:
        """Let the process, and what it will start, run on one core."""
        os.sched_setaffinity(self.pid, {core})

    def answer(self) -> dict[str, Any]:
        """Return the next line; raises ``Failure`` when none comes."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._held:
            left = self._deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise Failure("hangs", "no answer within the bound of the row")
            chunk = os.read(descriptor, _CHUNK_BYTES)
            if not chunk:
                raise Failure("failed")
            self._held += chunk
        line, _, self._held = self._held.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def wait(self) -> None:
        """Wait for a good end; raises ``Failure`` when there is none."""
        try:
            status = self._process.wait(self._deadline - time.monotonic())
        except subprocess.TimeoutExpired:
            raise Failure("hangs") from None
        if status != 0:
            raise Failure("failed")

    def end(self, token: str) -> None:
        """Kill it and what it has started, by pid, until nothing of it is left."""
        self._process.kill()
        deadline = time.monotonic() + _END_SECONDS
        # Processes that the row about orphans has started carry a token of their own.
        while any([kill_all(token), kill_all(f"{token}-victim")]):
            if time.monotonic() > deadline:
                break
            self._process.poll()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


class Turn:
    """The processes of one turn, and what they have shown."""

    def __init__(
        self,
        benchmark: str,
        row: Row,
        contender: Contender,
        output: Path,
        *,
        quick: bool,
        minutes: float = 0.0,
    ) -> None:
        self.row = row
        self.contender = contender
        self.quick = quick
        #: How long a row that lasts is to be measured, if the command line says it.
        self.minutes = minutes
        self.cells: Cells = {}
        self._benchmark = benchmark
        name = f"{row.name}-{contender.name}"
        self._samples = output / "samples" / f"{name}.jsonl"
        self._log_path = output / "logs" / f"{name}.txt"
        for path in (self._samples, self._log_path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._log = self._log_path.open("wb")
        self._token = uuid.uuid4().hex
        self._deadline = time.monotonic() + row.bound_s + minutes * 60 * row.lasts
        self._started: list[Process] = []

    def __enter__(self) -> Turn:
        return self

    def __exit__(self, *_error: object) -> None:
        """Leave no process behind."""
        self.end_processes()
        self._log.close()

    def end_processes(self) -> None:
        """End everything that was started so far."""
        while self._started:
            self._started.pop().end(self._token)

    def child(self, *more: str) -> list[str]:
        """Return the command that puts the row to the contender."""
        interpreter = [sys.executable, *self.contender.launcher, "-m", "bench.child"]
        words = [self._benchmark, self.row.name, self.contender.name, *more]
        return [*interpreter, *words, *(["--quick"] if self.quick else [])]

    def start(
        self,
        command: list[str],
        *,
        talks: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a process, whose environment is the row's unless another is given.

        A process that does not talk has no input, and a log as output.
        """
        surroundings = os.environ | {TOKEN: self._token}
        # Compiled modules are allowed.
        surroundings.pop("PYTHONDONTWRITEBYTECODE", None)
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=surroundings | dict(self.row.environment if environment is None else environment),
            stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
            stdout=subprocess.PIPE if talks else self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self._started.append(Process(process, self._deadline))
        return self._started[-1]

    def answered(self, answer: Mapping[str, Any]) -> None:
        """Take in an answer, which has a number for each metric."""
        take(self.cells, {metric.key: answer[metric.key] for metric in self.row.metrics})

    def sample(self) -> None:
        """Let a child write its samples into a file, and take in what it has when it ends."""
        path = self._samples
        path.unlink(missing_ok=True)
        try:
            self.start(self.child("--samples", str(path)), talks=False).wait()
        finally:
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            for line in lines:
                take(self.cells, json.loads(line))

    def last_words(self) -> str:
        """Return the last line of the log that says something."""
        lines = self._log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        spoken = [line.strip() for line in lines if line.strip() and not line.startswith(" ")]
        return spoken[-1][:300] if spoken else ""
