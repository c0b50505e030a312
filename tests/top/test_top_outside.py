"""``offloop top`` on programs that do not run offloop, and on what cannot be viewed."""

import json
import os
import subprocess
import sys

import pytest

from terminals import ON_OWN_LOOP, PATIENCE_SECONDS, SERVICE, TOP, program, terminal, top

pytestmark = pytest.mark.timeout(120)


def test_a_frozen_program_is_read_from_outside(tmp_path):
    gate = tmp_path / "gate"
    with program(tmp_path, SERVICE, str(gate)) as service, terminal(str(service.pid)) as shown:
        shown.wait_for("BLOCKED", "service.py:12 freeze", "read from outside")
        shown.press("k")
        shown.wait_for("k kills what a worker runs")
        shown.press("\r")
        text = shown.wait_for("last stall", "the innermost function first")
        stack = text.split("innermost")[1]
        assert stack.index("freeze") < stack.index("serve")
        gate.touch()
        assert service.stdout.readline() == "thawed\n"
        shown.press("\x1b")
        shown.wait_for("running")
        shown.press("\t\tc")
        shown.wait_for("choose a task" if sys.version_info < (3, 14) else "is only read")
        shown.press("q")
        assert shown.end() == 0
        assert service.poll() is None


@pytest.mark.quick
def test_tasks_are_told_or_why_they_are_not(tmp_path):
    gate = tmp_path / "gate"
    gate.touch()
    with program(tmp_path, SERVICE, str(gate)) as service:
        assert service.stdout.readline() == "thawed\n"
        done = top(str(service.pid), "--once", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        document = json.loads(done.stdout)
        assert document["process"]["program"] == "service.py"
        assert document["process"]["python"].startswith(f"3.{sys.version_info[1]}.")
        assert [each["thread"] for each in document["loops"]] == ["MainThread"]
        assert document["loops"][0]["statistics"]["utilisation"] < 0.5
        tasks = document["tasks"]
        if sys.version_info < (3, 14):
            assert "3.14" in tasks["reason"]
        else:
            told = {task["name"]: task for task in tasks["tasks"]}
            functions = [entry["function"] for entry in told["prices"]["stack"]]
            assert functions == ["refresh_prices", "sleep"]
            assert told["prices"]["awaited_by"] == [told["Task-1"]["id"]]


@pytest.mark.parametrize("kind", ["idle", "busy"])
def test_what_the_loop_of_offloop_does_is_told_as_of_any_other(tmp_path, kind):
    with program(tmp_path, ON_OWN_LOOP, kind) as service:
        done = top(str(service.pid), "--once", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    (event_loop,) = document["loops"]
    busy = event_loop["statistics"]["utilisation"]
    functions = [culprit["function"] for culprit in document["culprits"]]
    if kind == "idle":
        assert event_loop["blocked"] is None
        assert (busy < 0.5, "compute" in functions) == (True, False)
    else:
        assert (busy > 0.25, functions[0]) == (True, "compute")
    assert not [each for each in functions if each.startswith("EventLoop")]


def refused(arguments: list[str], status: int) -> str:
    """The one line with which it ended."""
    done = top(*arguments)
    assert (done.returncode, done.stdout) == (status, ""), done
    line = done.stderr.removeprefix("offloop top: ")
    assert line.count("\n") == 1
    assert line != done.stderr
    return line


@pytest.mark.quick
def test_what_cannot_be_viewed_is_said_in_a_line(tmp_path):
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as waiting:
        line = refused([str(waiting.pid), "--once"], 3)
        assert line == f"process {waiting.pid} (cat) runs no Python that can be read\n"
        waiting.kill()
    line = refused([str(waiting.pid), "--once"], 3)
    assert line == f"there is no process {waiting.pid}\n"
    assert refused([str(2**31 - 1)], 3) == "there is no process 2147483647\n"


@pytest.mark.quick
def test_a_process_that_only_its_parent_remembers_has_ended():
    with subprocess.Popen(["true"]) as over:
        os.waitid(os.P_PID, over.pid, os.WEXITED | os.WNOWAIT)
        assert refused([str(over.pid), "--once"], 5) == f"process {over.pid} has ended\n"


@pytest.mark.quick
def test_another_version_of_python_is_named(tmp_path):
    other = "import sys; sys.hexversion = 0x03080af0; from offloop.cli import main; main()"
    gate = tmp_path / "gate"
    with program(tmp_path, SERVICE, str(gate)) as service:
        done = subprocess.run(
            [sys.executable, "-c", other, "top", str(service.pid), "--once"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
    own = f"3.{sys.version_info[1]}"
    assert done.returncode == 3
    assert f"process {service.pid} runs Python {own}, and this is Python 3.8" in done.stderr


@pytest.mark.quick
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--json"], "--json needs --once"),
        (["0"], "0 is not in the range"),
        (["many"], "'many' is not a valid integer"),
        (["1", "--every", "0.01"], "0.01 is not in the range"),
    ],
)
def test_arguments_that_are_none(arguments, said):
    done = subprocess.run([*TOP, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_program_that_ends_is_told(tmp_path):
    gate = tmp_path / "gate"
    with program(tmp_path, SERVICE, str(gate)) as service, terminal(str(service.pid)) as shown:
        shown.wait_for("service.py")
        service.kill()
        service.wait()
        assert shown.end() == 5
        assert f"process {service.pid} has ended".encode() in shown.written
