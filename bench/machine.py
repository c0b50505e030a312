"""On what the numbers were measured: they mean little without it."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """Processor, kernel and interpreter, as one line."""

    processor: str
    cores: int
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
            kernel=platform.release().split("-")[0],
            python=platform.python_version(),
            virtual=" hypervisor " in information,
        )

    def __str__(self) -> str:
        kind = "virtual machine" if self.virtual else "machine"
        return (
            f"a {kind} with {self.cores} cores ({self.processor}), "
            f"Linux {self.kernel}, CPython {self.python}"
        )
