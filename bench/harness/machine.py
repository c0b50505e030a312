"""On what the numbers were measured, and with which packages: they mean little without it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

#: Every contender has two workers and two cores, so that a call and its neighbour share them alike.
CORES = 2


@dataclass(frozen=True)
class Machine:
    """Processor, memory, kernel and interpreter, as one line."""

    processor: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    virtual: bool

    @classmethod
    def read(cls) -> Machine:
        """Ask this machine."""
        information = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        names = [line for line in information.splitlines() if line.startswith("model name")]
        return cls(
            processor=names[0].partition(":")[2].strip() if names else platform.machine(),
            cores=len(os.sched_getaffinity(0)),
            memory_gib=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30,
            kernel=platform.release().split("-")[0],
            python=platform.python_version(),
            virtual=" hypervisor " in information,
        )

    def __str__(self) -> str:
        kind = "virtual machine" if self.virtual else "machine"
        return (
            f"a {kind} with {self.cores} cores ({self.processor}), {self.memory_gib:.0f} GiB, "
            f"Linux {self.kernel}, CPython {self.python}"
        )


def take_two_cores() -> bool:
    """Bind this process and all that it starts to two cores; False where there are fewer."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > CORES:
        os.sched_setaffinity(0, cores[:CORES])
    return len(cores) >= CORES


def packages(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those of the packages that are installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
