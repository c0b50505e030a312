"""The scripts of the set-up: each thing that a machine lacks is told in one clear line."""

import os
import shutil
import subprocess
import sys

import pytest
from sources import ROOT

CHECK = ROOT / ".ci" / "check-tools"
FIND = ROOT / ".ci" / "find-python"
MAKE_CHROOT = ROOT / ".ci" / "make-chroot"
SERVERS = ROOT / ".ci" / "check-servers"
NEEDED_BY_THE_SCRIPT = ("bash", "env", "sed", "dirname", "cut", "sort", "head", "ls", "tail")


@pytest.fixture
def bare_path(tmp_path):
    """A PATH with the plain tools of a shell, and a way to add pretended ones."""
    for name in NEEDED_BY_THE_SCRIPT:
        (tmp_path / name).symlink_to(shutil.which(name))
    return tmp_path


def pretend(directory, name, output, status=0):
    """Put a program that prints a line and ends with a status onto the PATH."""
    program = directory / name
    program.write_text(f"#!/usr/bin/env bash\necho '{output}'\nexit {status}\n")
    program.chmod(0o755)


def check(path, python=sys.executable):
    """Run the check, and return its exit status and lines."""
    done = subprocess.run(
        [CHECK, python], env={"PATH": str(path)}, capture_output=True, text=True, timeout=30
    )
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def test_complete_machine_is_told_nothing():
    assert check(os.environ["PATH"]) == (0, [])


def test_every_absent_tool_gets_one_line(bare_path):
    status, lines = check(bare_path, "/nowhere/python3")
    assert status == 1
    assert [line.split()[2] for line in lines] == ["Rust", "a", "Python"]


def test_old_rust_is_told_with_both_versions(bare_path):
    pretend(bare_path, "cargo", "cargo 1.60.0")
    pretend(bare_path, "rustc", "rustc 1.60.0 (abc 2022-01-01)")
    pretend(bare_path, "cc", "cc")
    status, lines = check(bare_path)
    assert status == 1
    assert len(lines) == 1
    assert "1.60.0" in lines[0]


def test_python_without_venv_is_told(bare_path):
    pretend(bare_path, "cargo", "cargo 99.0.0")
    pretend(bare_path, "rustc", "rustc 99.0.0 (abc 2099-01-01)")
    pretend(bare_path, "cc", "cc")
    python = bare_path / "python"
    python.write_text('#!/usr/bin/env bash\n[[ "$2" != *ensurepip* ]]\n')
    python.chmod(0o755)
    status, lines = check(bare_path, str(python))
    assert status == 1
    assert len(lines) == 1
    assert "venv" in lines[0]


def check_servers(path, *arguments):
    """Run the check of servers where Debian's folder has none; return its status and lines."""
    done = subprocess.run(
        ["bash", "-c", SERVERS.read_text().replace("/usr/lib/", "/nowhere/"), "", *arguments],
        env={"PATH": str(path)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def test_every_absent_server_gets_one_line_with_its_package(bare_path):
    status, lines = check_servers(bare_path)
    assert status == 1
    assert [line.split()[-1] for line in lines] == ["postgresql)", "redis-server)", "chromium)"]
    pretend(bare_path, "redis-server", "Redis")
    pretend(bare_path, "chromium", "Chromium")
    assert len(check_servers(bare_path)[1]) == 1
    pretend(bare_path, "postgres", "PostgreSQL")
    assert check_servers(bare_path) == (0, [])


def test_absent_servers_are_installed_for_root_alone(bare_path):
    installed = bare_path / "apt-get"
    pretend(bare_path, "id", "1000")
    pretend(bare_path, "apt-get", "must not run")
    assert len(check_servers(bare_path, "--install")[1]) == 3
    pretend(bare_path, "id", "0")
    installed.write_text(
        f'#!/usr/bin/env bash\n[ "$1" = update ] && exit\n'
        f'cd "{bare_path}" && for server in postgres redis-server chromium\n'
        "do /bin/ln -s /bin/true $server; done\n"
        'echo "$@" >&2\n'
    )
    status, lines = check_servers(bare_path, "--install")
    assert status == 0
    assert lines == ["install -qq --no-install-recommends postgresql redis-server chromium"]


def test_shim_that_fails_is_passed_over(bare_path):
    pretend(bare_path, "python3.13", "python3.13: command not found", 127)
    directory = bare_path / "versions" / "3.13.9" / "bin"
    directory.mkdir(parents=True)
    (directory / "python3.13").write_text(
        '#!/usr/bin/env bash\n[[ "$2" == *executable* ]] && echo /found/it || echo 3.13\n'
    )
    (directory / "python3.13").chmod(0o755)
    environment = {"PATH": str(bare_path), "PYENV_ROOT": str(bare_path)}
    done = subprocess.run(
        [FIND, "3.13"], env=environment, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (0, "/found/it\n")


@pytest.mark.parametrize(
    ("command", "answer", "status", "reason"),
    [
        ("id", "1000", 0, "only root can make a chroot"),
        ("unshare", "Operation not permitted", 1, "nothing can be mounted here"),
    ],
)
def test_chroot_that_cannot_be_made_is_a_line_and_no_folder(
    bare_path, tmp_path, command, answer, status, reason
):
    pretend(bare_path, "id", "0")
    pretend(bare_path, command, answer, status)
    done = subprocess.run(
        [MAKE_CHROOT],
        env={"PATH": str(bare_path), "OFFLOOP_CHROOT": str(tmp_path / "chroot")},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{reason}\n")
    assert not (tmp_path / "chroot").exists()


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14", "3.15"])
def test_each_supported_python_is_found_when_it_is_the_only_one(bare_path, version):
    python = bare_path / f"python{version}"
    answer = f'[[ "$2" == *executable* ]] && echo /found/{version} || echo {version}'
    python.write_text(f"#!/usr/bin/env bash\n{answer}\n")
    python.chmod(0o755)
    for shim in {"3.11", "3.12", "3.13", "3.14", "3.15"} - {version}:
        pretend(bare_path, f"python{shim}", "not installed", 127)
    script = FIND.read_text().replace("/usr/bin/python", "/nowhere/python")
    script = script.replace("/usr/local/bin/python", "/nowhere/python")
    done = subprocess.run(
        ["bash", "-c", script],
        env={"PATH": str(bare_path), "HOME": "/nowhere"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (0, f"/found/{version}\n")
