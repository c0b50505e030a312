"""Fetches a suite from the package index and makes an environment for it.

The tests come from the source distribution of the pinned version, or, where that has none, from
Debian's source package. The package comes as a wheel. Our own package is not installed: a ``.pth``
file leads to it, and makes every interpreter of the environment import `chosen_loop`.

A stamp holds what an environment was made from; it is made again when that has changed.

Errors: `StepFailed` when a download or an installation failed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.suites.table import HERE, ROOT, WORK, Suite

STEP_S = 600
"""The time for one step: a download, or an installation."""

LOCK = HERE / "lock.txt"
SETTINGS = ("pytest.ini", "pyproject.toml", "setup.cfg")
"""Files that hold a suite's settings of pytest."""

DISTRIBUTION = "trixie"
"""The Debian release whose source packages are taken; it is no longer changed."""


class StepFailed(Exception):
    """A command that prepares a suite failed; the text has its output."""


def prepare(suite: Suite) -> None:
    """Make the suite's environment and folder, unless they are there already."""
    stamp = suite.folder / "stamp"
    made_from = _made_from(suite)
    if stamp.is_file() and stamp.read_text() == made_from:
        return
    shutil.rmtree(suite.folder, ignore_errors=True)
    suite.folder.mkdir(parents=True)
    _take_files(suite, _source(suite))
    _make_environment(suite)
    stamp.write_text(made_from)


def _made_from(suite: Suite) -> str:
    """A text that changes with everything that an environment is made from."""
    parts = [repr(suite), sys.version, LOCK.read_text(), *_own_requirements()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _own_requirements() -> Sequence[str]:
    """What our own package needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return list(project["dependencies"])


def _source(suite: Suite) -> Path:
    """The source distribution, in a folder of its own."""
    folder = suite.folder / "source"
    folder.mkdir()
    if suite.source:
        _download_from_debian(suite, folder)
    else:
        pip = [sys.executable, "-m", "pip", "--quiet", "download", "--no-deps"]
        pinned = f"{suite.name}=={suite.version}"
        _run([*pip, "--dest", folder, "--no-binary", suite.name, pinned])
    (archive,) = folder.iterdir()
    return archive


def _download_from_debian(suite: Suite, folder: Path) -> None:
    """Fetch the upstream half of a Debian source package, with lists of our own.

    The machine's own lists and settings are left alone; only where it gets packages is read.
    """
    state = WORK / "debian"
    for name in ("lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    found = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)"]).split()
    address = next(line for line in found if line.rstrip("/").endswith("/debian"))
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (state / "sources.list").write_text(
        f"deb-src [signed-by={keys}] {address} {DISTRIBUTION} main\n"
    )
    (state / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{state}/sources.list"; Dir::Etc::sourceparts "-";\n'
        f'Dir::State::lists "{state}/lists"; Dir::Cache "{state}/cache";\n'
        'Acquire::Languages "none"; Acquire::Check-Valid-Until "false";\n'
        'APT::Sandbox::User "root";\n'
    )
    environment = {"APT_CONFIG": str(state / "apt.conf")}
    _run(["apt-get", "--quiet", "update"], environment)
    command = ["apt-get", "--quiet", "source", "--download-only", "--tar-only"]
    package = f"{suite.source}={suite.version}-1"
    _run([*command, package], environment, directory=folder)


def _take_files(suite: Suite, archive: Path) -> None:
    """Unpack the archive, and move the tests to where no package shadows the installed one."""
    unpacked = suite.folder / "unpacked"
    with tarfile.open(archive) as tar:
        tar.extractall(unpacked, filter="data")
    (top,) = unpacked.iterdir()
    suite.tests.mkdir()
    for name in suite.files:
        (top / name).rename(suite.tests / name)
    shutil.rmtree(unpacked)
    if not any((suite.tests / name).exists() for name in SETTINGS):
        # Or pytest would take those of a folder above, which are our own.
        (suite.tests / "pytest.ini").write_text("[pytest]\n")


def _make_environment(suite: Suite) -> None:
    """A virtual environment with the package, its requirements, and the way to ours."""
    folder = suite.folder / "venv"
    _run([sys.executable, "-m", "venv", "--without-pip", folder])
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", suite.python, "install"]
    requirements = [suite.pinned, *suite.requirements, *_own_requirements()]
    _run([*pip, "--constraint", LOCK, *requirements])
    (packages,) = folder.glob("lib/python*/site-packages")
    lines = [str(ROOT / "python"), str(HERE / "inside"), "import chosen_loop"]
    (packages / "offloop_suites.pth").write_text("\n".join(lines) + "\n")


def _run(
    command: Sequence[object], environment: Mapping[str, str] = {}, directory: Path | None = None
) -> str:
    """Run one step to its end; its output is shown if it failed."""
    done = subprocess.run(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=STEP_S,
        env={**os.environ, **environment},
        cwd=directory,
    )
    if done.returncode:
        raise StepFailed(f"{' '.join(map(str, command))} failed:\n{done.stdout}")
    return done.stdout
