"""``offloop top`` in a real terminal, on programs under ``offloop run``."""

import json
import os
import re
import signal
import socket
from contextlib import ExitStack

import pytest

import offloop
from terminals import RUN, SERVICE, TOP, WORKING, Terminal, program, terminal, top

pytestmark = pytest.mark.timeout(120)


def test_the_culprit_is_shown_while_the_loop_is_frozen(tmp_path):
    gate = tmp_path / "gate"
    with program(tmp_path, SERVICE, str(gate), under=RUN) as service:
        with terminal(str(service.pid)) as shown:
            text = shown.wait_for("BLOCKED", "service.py:12 freeze", "time.sleep(0.01)")
            assert f"pid {service.pid}" in text
            # What blocks now is at the top of its picture, and its age is told.
            assert re.search(r"BLOCKED \d", text.splitlines()[0])
            shown.press("\r")
            text = shown.wait_for("last stall", "and it goes on", "the innermost function first")
            stack = text.split("innermost")[1]
            assert stack.index("freeze") < stack.index("serve")
            assert "offloop.to_thread" in text or "asyncio.sleep" in text
            assert service.poll() is None
            gate.touch()
            assert service.stdout.readline() == "thawed\n"
            shown.press("\x1b")
            shown.wait_for("running", "prices")
            shown.press("q")
            assert shown.end() == 0
            # The screen is given back, and the cursor with it.
            assert b"\x1b[?1049l" in shown.written
            assert shown.written.endswith(b"\x1b[?25h")
        assert service.poll() is None


def test_a_call_is_killed_after_two_questions_with_different_keys(tmp_path):
    with program(tmp_path, WORKING, under=RUN) as service, terminal(str(service.pid)) as shown:
        shown.wait_for("busy", "nap")
        shown.press("\t")
        shown.wait_for("▶ lanes and workers")
        shown.press("k")
        shown.wait_for("Kill ", "nap, which worker")
        shown.press("yy")
        shown.wait_for("nothing was done")
        shown.press("ky")
        shown.wait_for("Kill it now?")
        assert service.poll() is None
        shown.press("k")
        assert service.stdout.readline() == "crashed\n"
        shown.wait_for("1 crashed")


def test_a_task_is_cancelled_after_two_questions(tmp_path):
    gate = tmp_path / "gate"
    gate.touch()
    with program(tmp_path, SERVICE, str(gate), under=RUN) as service:
        assert service.stdout.readline() == "thawed\n"
        with terminal(str(service.pid)) as shown:
            shown.wait_for("prices", "refresh_prices")
            shown.press("\t\t")
            shown.wait_for("▶ tasks")
            for _ in range(8):
                marked = [line for line in shown.text.splitlines() if line.startswith("▶")]
                if marked and "prices" in marked[0]:
                    break
                shown.press("\x1b[B")
                shown.wait_for(
                    is_so=lambda text, marked=marked: (
                        marked != [line for line in text.splitlines() if line.startswith("▶")]
                    )
                )
            shown.press("c")
            shown.wait_for("Cancel the task prices?")
            shown.press("y")
            shown.wait_for("Cancel it now?")
            shown.press("c")
            assert service.stdout.readline() == "cancelled\n"
            shown.wait_without("refresh_prices")


def test_a_stack_of_a_task_and_its_chain_are_opened(tmp_path):
    gate = tmp_path / "gate"
    gate.touch()
    with program(tmp_path, SERVICE, str(gate), under=RUN) as service:
        assert service.stdout.readline() == "thawed\n"
        with terminal(str(service.pid), columns=120, rows=40) as shown:
            text = shown.wait_for("└─ prices refresh_prices \u203a sleep")
            awaiting = next(
                line for line in text.splitlines() if "serve" in line and "waiting" in line
            )
            assert "service.py" in awaiting
            shown.press("\t\t\x1b[6~\r")
            shown.wait_for("task prices", "awaited by", "refresh_prices  service.py")
            shown.press("?")
            shown.wait_for("asks twice")


@pytest.mark.quick
def test_a_script_gets_one_document(tmp_path):
    gate = tmp_path / "gate"
    gate.touch()
    with program(tmp_path, SERVICE, str(gate), under=RUN) as service:
        done = top(str(service.pid), "--once", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        document = json.loads(done.stdout)
        assert done.stdout.count("\n") == 1
        assert document["version"] == 1
        assert document["process"]["pid"] == service.pid
        assert document["loops"][0]["kind"] == "offloop"
        picture = top(str(service.pid), "--once", COLUMNS="80", LC_ALL="C")
        assert (picture.returncode, picture.stderr) == (0, "")
        lines = picture.stdout.splitlines()
        assert "service.py" in lines[0]
        assert max(map(len, lines)) <= 80
        assert picture.stdout.isascii()
        assert "\x1b" not in picture.stdout


def test_terminals_that_can_do_little(tmp_path):
    gate = tmp_path / "gate"
    with program(tmp_path, SERVICE, str(gate), under=RUN) as service:
        pid = str(service.pid)
        with terminal(pid, NO_COLOR="1") as shown:
            shown.wait_for("BLOCKED", "freeze")
            assert not re.search(rb"\x1b\[(?:[0-9]+;)*(?:3[0-8]|4[0-8])[;m]", shown.written)
        with terminal(pid, TERM="dumb") as shown:
            shown.wait_for("BLOCKED", "freeze")
            assert b"\x1b" not in shown.written
            shown.press("\x03")
            assert shown.end() == 0
        with terminal(pid, columns=20, rows=10) as shown:
            text = shown.wait_for("20 columns of 40", "BLOCKED", "py:12")
            shown.resize(80, 24)
            shown.wait_for("time.sleep(0.01)", "quit")
            assert text.splitlines()[1] == "service.py"


def test_a_program_that_ends_or_stops_while_it_is_watched(tmp_path):
    gate = tmp_path / "gate"
    with program(tmp_path, SERVICE, str(gate), under=RUN) as service:
        with terminal(str(service.pid)) as shown:
            shown.wait_for("BLOCKED")
            os.kill(service.pid, signal.SIGSTOP)
            shown.wait_for("no answer for ")
            os.kill(service.pid, signal.SIGCONT)
            shown.wait_without("no answer for ")
            service.kill()
            assert shown.end() == 5
            after = shown.written.split(b"\x1b[?1049l")[1].decode()
            assert f"offloop top: process {service.pid} has ended\r\n" in after


def test_it_ends_with_its_terminal_also_where_hangups_are_ignored(tmp_path):
    gate = tmp_path / "gate"
    with program(tmp_path, SERVICE, str(gate), under=RUN) as service:
        deaf = ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"]
        shown = Terminal([*deaf, *TOP, str(service.pid)])
        try:
            shown.wait_for("BLOCKED")
            assert shown.hang_up() > 0
        finally:
            shown.close()


def test_programs_are_named_as_they_name_themselves(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    gate, other = tmp_path / "gate", tmp_path / "other"
    other.mkdir()
    with program(tmp_path, SERVICE, str(gate), under=RUN) as one:
        line = os.fspath(tmp_path / f"offloop-{one.pid}.sock")
        with program(other, SERVICE, str(gate), under=RUN) as two:
            done = top("--once")
        assert (done.returncode, done.stdout) == (2, "")
        assert "several programs run under offloop, name one: " in done.stderr
        for each in (one, two):
            assert f"{each.pid} (service.py)" in done.stderr
        # A container with ids of its own may have the first name, and then it is not this program.
        os.rename(line, line.replace(".sock", "-2.sock"))
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.bind(line)
            stranger.listen()
            found = json.loads(top(str(one.pid), "--once", "--json").stdout)
    assert (found["process"]["pid"], found["process"]["program"]) == (one.pid, "service.py")
    assert found["loops"][0]["kind"] == "offloop"


def test_a_viewer_too_many_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    with offloop.views() as views, ExitStack() as viewers:
        for _ in range(16):
            viewer = viewers.enter_context(socket.socket(socket.AF_UNIX))
            viewer.connect(views.path)
        done = top(str(os.getpid()), "--once")
    said = f"process {os.getpid()} answers no question now: 16 viewers are attached, limit 16"
    assert (done.returncode, done.stderr) == (3, f"offloop top: {said}\n")


def test_a_signal_gives_the_terminal_back(tmp_path):
    gate = tmp_path / "gate"
    with program(tmp_path, SERVICE, str(gate), under=RUN) as service:
        with terminal(str(service.pid)) as shown:
            shown.wait_for("BLOCKED")
            shown.process.terminate()
            assert shown.end() == 128 + signal.SIGTERM
            assert b"\x1b[?1049l" in shown.written
        with terminal(str(service.pid)) as shown:
            shown.wait_for("BLOCKED")
            shown.press("\x03")
            assert shown.end() == 0
