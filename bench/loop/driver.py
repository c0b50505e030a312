"""One measurement: starts the processes of a contender, takes their numbers, leaves nothing behind.

Server and client have a core each, so that neither is moved between cores or pushed off its own by
the other; a process that measures itself may use both.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cases import ROOT, end, environment, last_words
from bench.loop.build import Tools
from bench.loop.contenders import FLOOR
from bench.loop.rows.base import HEAPS, Load, Row

#: How long the client warms up and counts, in the full and the quick form.
_CLIENT_MS = {False: (300, 1000), True: (150, 400)}
_CHUNK_BYTES = 4096


class Failure(Exception):
    """A measurement without numbers: a word for the table, and the last line of the error."""

    def __init__(self, word: str, error: str = "") -> None:
        super().__init__(word, error)
        self.word = word
        self.error = error


@dataclass(frozen=True)
class Driver:
    """Measures a contender in a row, each time in fresh processes."""

    output: Path
    tools: Tools
    quick: bool
    #: The server's core, and the client's.
    cores: tuple[int, int]

    def measure(self, row: Row, name: str) -> dict[str, float]:
        """Return the numbers by metric; raises ``Failure`` where there are none."""
        log = self.output / "logs" / f"{row.name}-{name}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as stream:
            case = _Case(row, stream.fileno(), time.monotonic() + row.bound_s)
            try:
                answer = self._ask(case, name)
            except Failure as failure:
                raise Failure(failure.word, failure.error or last_words(log)) from None
            finally:
                case.end()
        if "note" in answer:
            raise Failure(str(answer["note"]))
        if "requests" in answer:
            answer["requests_per_s"] = answer["requests"] / answer["seconds"] / 1000
        return {metric.key: float(answer[metric.key]) for metric in row.metrics}

    def _ask(self, case: _Case, name: str) -> dict[str, Any]:
        first = case.start(self._command(case.row, name))
        load = case.row.load
        if load is None:
            return first.answer(case.deadline)
        first.bind(self.cores[0])
        greeting = first.answer(case.deadline)
        if "port" not in greeting:
            return greeting
        client = case.start(self._client(load, greeting["port"], first.process.pid), heap="")
        client.bind(self.cores[1])
        if not load.answered_by_server:
            return client.answer(case.deadline)
        client.answer(case.deadline)
        return first.answer(case.deadline)

    def _command(self, row: Row, name: str) -> list[str]:
        if name == FLOOR and row.floor is not None:
            program, *words = row.floor
            return [str(self.tools.floors[program]), *words]
        command = [sys.executable, "-m", "bench.loop.child", row.name, name]
        return [*command, "--quick"] if self.quick else command

    def _client(self, load: Load, port: int, server: int) -> list[str]:
        warm, measure = _CLIENT_MS[self.quick]
        command = [str(self.tools.client), *load.words(), "--port", str(port)]
        command += ["--warm-ms", str(warm), "--measure-ms", str(measure)]
        return [*command, "--server-pid", str(server)]


class _Case:
    """The processes of one measurement."""

    def __init__(self, row: Row, log: int, deadline: float) -> None:
        self.row = row
        self.deadline = deadline
        self._log = log
        self._token = uuid.uuid4().hex
        self._started: list[_Talking] = []

    def start(self, command: list[str], heap: str | None = None) -> _Talking:
        """Start a process with the row's heap, or another: the client is the same everywhere."""
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(self._token) | HEAPS[self.row.heap if heap is None else heap],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )
        self._started.append(_Talking(process))
        return self._started[-1]

    def end(self) -> None:
        """Kill what is left, by pid, and wait for its end."""
        for talking in reversed(self._started):
            talking.process.kill()
            end(talking.process, self._token)
            for pipe in (talking.process.stdin, talking.process.stdout):
                if pipe is not None:
                    pipe.close()


class _Talking:
    """A process that prints numbers, one JSON object in each line."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._held = b""

    def bind(self, core: int) -> None:
        """Let the process, and what it will start, run on one core."""
        os.sched_setaffinity(self.process.pid, {core})

    def answer(self, deadline: float) -> dict[str, Any]:
        """Return the next line; raises ``Failure`` when none comes."""
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        while b"\n" not in self._held:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise Failure("hangs", "no answer within the bound of the row")
            chunk = os.read(descriptor, _CHUNK_BYTES)
            if not chunk:
                raise Failure("failed")
            self._held += chunk
        line, _, self._held = self._held.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer
