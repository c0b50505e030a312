"""Building what is not Python: the client in Rust, and the floor's programs in C."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from bench.loop.rows.base import Row

HERE = Path(__file__).resolve().parent

#: What a floor's program is linked with.
_LIBRARIES = {"tls_echo": ("-lssl", "-lcrypto")}
_BUILD_SECONDS_MAX = 300


@dataclass
class Tools:
    """The programs that were built, and what prevented the others."""

    client: Path | None = None
    client_has_tls: bool = False
    floors: dict[str, Path] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def absence(self, row: Row) -> str | None:
        """Say why a row cannot be measured; None when it can."""
        if row.load is None:
            return None
        if self.client is None:
            return "no client"
        return "no OpenSSL headers" if row.load.tls and not self.client_has_tls else None


def build(rows: list[Row], output: Path) -> Tools:
    """Build what these rows need into ``output``; nothing is built again without need."""
    tools = Tools()
    folder = output.resolve() / "programs"
    folder.mkdir(parents=True, exist_ok=True)
    if loads := [row.load for row in rows if row.load is not None]:
        _build_client(tools, folder, tls=any(load.tls for load in loads))
    for name in dict.fromkeys(row.floor[0] for row in rows if row.floor is not None):
        _build_floor(tools, folder, name)
    return tools


def _build_client(tools: Tools, folder: Path, *, tls: bool) -> None:
    cargo = shutil.which("cargo")
    if cargo is None:
        tools.problems.append("there is no cargo to build the client with")
        return
    command = [cargo, "build", "--release", "--quiet", "--locked", "--target-dir", str(folder)]
    for features in [["--features", "tls"], []] if tls else [[]]:
        problem = _run([*command, *features], HERE / "client")
        if problem is None:
            tools.client = folder / "release" / "offloop-bench-client"
            tools.client_has_tls = bool(features)
            return
        form = "client with TLS" if features else "client"
        tools.problems.append(f"the {form} cannot be built: {problem}")


def _build_floor(tools: Tools, folder: Path, name: str) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        tools.problems.append(f"there is no C compiler to build the floor's {name} with")
        return
    program = folder / name
    source = f"{name}.c"
    command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(program), source]
    problem = _run([*command, *_LIBRARIES.get(name, ())], HERE / "floor")
    if problem is None:
        tools.floors[name] = program
    else:
        tools.problems.append(f"the floor's {name} cannot be built: {problem}")


def _run(command: list[str], folder: Path) -> str | None:
    """Run a compiler; return what it complains of in one line, or None."""
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
