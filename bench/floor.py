"""The bare floor: what two processes without any Python can do on this machine."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path


def measure(package: Path, output: Path) -> dict[str, float]:
    """Build and run the Rust program of ``bench/floor``; empty where there is no cargo."""
    cargo = shutil.which("cargo")
    if cargo is None:
        return {}
    target = output.resolve() / "floor"
    command = [cargo, "run", "--release", "--quiet", "--locked", "--target-dir", str(target)]
    try:
        answer = subprocess.run(
            command, cwd=package, capture_output=True, text=True, timeout=300, check=True
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return {}
    numbers: dict[str, float] = json.loads(answer.stdout)
    return numbers
