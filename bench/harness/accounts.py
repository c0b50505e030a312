"""The kernel's accounts of a whole process tree.

The tree is every process that carries this case's token in its environment, and every descendant
of the measuring process. Workers under a fork server, a zygote or a session of their own are
found either way.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

#: Names one measured case in the environment of all its processes.
TOKEN = "BENCH_CASE_TOKEN"

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def processes(token: str, root: int | None = None) -> list[int]:
    """Return the living processes that carry ``token`` or descend from ``root``."""
    parents = {pid: stat[1] for pid in _all_pids() if (stat := _stat(pid)) and stat[0] != "Z"}
    marked = {pid for pid in parents if _carries(pid, token)}
    if root is not None:
        marked.add(root)
    found = set(marked)
    while added := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= added
    return sorted(found & parents.keys())


def own_tree() -> list[int]:
    """Return the processes of the running case, this one first."""
    here = os.getpid()
    others = [pid for pid in processes(os.environ[TOKEN], here) if pid != here]
    return [here, *others]


def kill_all(token: str) -> bool:
    """Kill what carries ``token``, by pid; return whether there was anything."""
    left = processes(token)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(left)


def is_alive(pid: int) -> bool:
    """Return whether a process is there, and not only waits to be reaped."""
    stat = _stat(pid)
    return stat is not None and stat[0] not in "ZX"


def cpu_ns(pid: int) -> int | None:
    """Return the CPU time of all threads of a process, or None when it is gone."""
    try:
        # The kernel's clock of another process: see clock_getcpuclockid(3).
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return None


def is_runnable(pid: int) -> bool:
    """Return whether the main thread of a process runs, or would if it were given a core."""
    stat = _stat(pid)
    return stat is not None and stat[0] == "R"


def voluntary_switches(pids: Iterable[int]) -> int:
    """Return how often the threads of these processes have gone to sleep so far."""
    total = 0
    for pid in pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            total += _field(status, "voluntary_ctxt_switches")
    return total


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    return _field(Path(f"/proc/{pid}/status"), "VmRSS") * 1024


def peak_bytes(pid: int) -> int:
    """Return the highest resident memory of a process since ``reset_peak``."""
    return _field(Path(f"/proc/{pid}/status"), "VmHWM") * 1024


def reset_peak(pid: int) -> None:
    """Let the kernel forget the highest resident memory of a process."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


class CpuMeter:
    """CPU time used by the whole tree between two moments, ended processes included."""

    def __init__(self) -> None:
        self._before: dict[int, int] = {}
        self._reaped = 0

    def start(self) -> None:
        """Remember the accounts as they stand now."""
        tree = own_tree()
        self._reaped = sum(_reaped_ns(pid) for pid in tree)
        self._before = {pid: cpu_ns(pid) or 0 for pid in tree}

    def stop(self) -> int:
        """Return the nanoseconds of CPU used since ``start``."""
        now = {pid: cpu_ns(pid) for pid in self._before}
        tree = own_tree()
        now |= {pid: cpu_ns(pid) for pid in tree if pid not in now}
        used = sum(
            spent - self._before.get(pid, 0) for pid, spent in now.items() if spent is not None
        )
        reaped = sum(_reaped_ns(pid) for pid in tree) - self._reaped
        ended = sum(self._before[pid] for pid, spent in now.items() if spent is None)
        return used + max(0, reaped - ended)


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _carries(pid: int, token: str) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"{TOKEN}={token}".encode() in environment.split(b"\0")


def _stat_fields(pid: int) -> list[str] | None:
    """Return the fields of ``/proc/PID/stat`` that follow the command name."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _stat(pid: int) -> tuple[str, int] | None:
    fields = _stat_fields(pid)
    return (fields[0], int(fields[1])) if fields else None


def _reaped_ns(pid: int) -> int:
    """Return the CPU time of the children that this process has waited for."""
    fields = _stat_fields(pid)
    return (int(fields[13]) + int(fields[14])) * _TICK_NS if fields else 0


def _field(status: Path, name: str) -> int:
    try:
        lines = status.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 0
    for line in lines:
        if line.startswith(name + ":"):
            return int(line.split()[1])
    return 0
