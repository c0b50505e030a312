"""Building what is not Python: nothing is built again without need."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_BUILD_SECONDS_MAX = 300


class Programs:
    """The programs that were built, by name, and why the rest could not be built."""

    def __init__(self, output: Path) -> None:
        self.built: dict[str, Path] = {}
        self.problems: list[str] = []
        self._folder = output.resolve() / "programs"

    def cargo(self, name: str, package: Path, program: str, *options: str) -> bool:
        """Build a package in Rust, and return whether it succeeded."""
        command = ["cargo", "build", "--release", "--quiet", "--locked"]
        command += ["--target-dir", str(self._folder), *options]
        return self._build(name, command, package, self._folder / "release" / program)

    def compile(self, name: str, source: Path, *options: str) -> bool:
        """Compile a program in C, and return whether it succeeded."""
        program = self._folder / source.stem
        command = ["cc", "-O2", "-Wall", "-Wextra", "-o", str(program), source.name, *options]
        return self._build(name, command, source.parent, program)

    def _build(self, name: str, command: list[str], folder: Path, program: Path) -> bool:
        self._folder.mkdir(parents=True, exist_ok=True)
        problem = _run(command, folder)
        if problem is None:
            self.built[name] = program
        else:
            self.problems.append(f"{name} cannot be built: {problem}")
        return problem is None


def _run(command: list[str], folder: Path) -> str | None:
    """Run a compiler; return what it complains of in one line, or None."""
    if shutil.which(command[0]) is None:
        return f"there is no {command[0]}"
    try:
        subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_BUILD_SECONDS_MAX,
            check=True,
        )
    except subprocess.TimeoutExpired:
        return f"no end within {_BUILD_SECONDS_MAX} s"
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "error" in line.lower()]
        return lines[0].strip() if lines else f"{command[0]} failed"
    return None
