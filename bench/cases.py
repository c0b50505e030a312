"""Running one case: one peer in one scenario, in fresh processes, inside a time bound."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from bench.measure import TOKEN, processes
from bench.peers import ADOPTED
from bench.results import CaseResult, Cell, Scenario

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class CaseRunner:
    """Starts measuring processes, and leaves none behind."""

    output: Path
    quick: bool

    def run(self, scenario: Scenario, peer: str) -> CaseResult:
        """Measure one case, in as many fresh processes as the scenario wants."""
        result = CaseResult()
        started = time.monotonic()
        samples = self.output / "samples" / f"{scenario.name}-{peer}.jsonl"
        samples.parent.mkdir(parents=True, exist_ok=True)
        samples.unlink(missing_ok=True)
        log = self.output / "logs" / f"{scenario.name}-{peer}.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        for _ in range(scenario.processes[self.quick]):
            result.status = self._run_process(scenario, peer, samples, log)
            if result.status != "ok":
                break
        result.seconds = time.monotonic() - started
        result.read(samples)
        if result.status != "ok":
            result.error = last_words(log)
            if "ModuleNotFoundError" in result.error or "ImportError" in result.error:
                result.status = "not installed"
            _mark_missing(scenario, result)
        return result

    def _run_process(self, scenario: Scenario, peer: str, samples: Path, log: Path) -> str:
        token = uuid.uuid4().hex
        launcher = ["-m", "offloop", "run"] if peer in ADOPTED else []
        command = [sys.executable, *launcher, "-m", "bench.child", scenario.name, peer]
        command += [str(samples), *(["--quick"] if self.quick else [])]
        with log.open("ab") as stream:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment(token),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
            try:
                process.wait(timeout=scenario.bound_s)
            except subprocess.TimeoutExpired:
                return "hangs"
            finally:
                end(process, token)
        return "ok" if process.returncode == 0 else "failed"


def environment(token: str) -> dict[str, str]:
    """Return our environment with the case's token, and with compiled modules allowed."""
    environment = os.environ | {TOKEN: token}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def end(process: subprocess.Popen[bytes], token: str) -> None:
    """Kill what a case has left, by pid, until nothing of it is left."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        left = processes(token)
        victims = [pid for pid in _victims_left(token) if pid not in left]
        if not left and not victims:
            break
        for pid in (*left, *victims):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.poll()
    process.wait()


def _victims_left(token: str) -> list[int]:
    """Return what the second parents of the orphans' scenario have left."""
    return processes(f"{token}-victim")


def last_words(log: Path) -> str:
    """Return the last line of a log that says something."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    spoken = [line.strip() for line in lines if line.strip() and not line.startswith(" ")]
    return spoken[-1][:300] if spoken else ""


def _mark_missing(scenario: Scenario, result: CaseResult) -> None:
    """Let the metrics that a failed case did not reach say why they are empty."""
    for metric in scenario.metrics:
        if metric.key not in result.cells:
            result.cells[metric.key] = Cell(note=result.status)
