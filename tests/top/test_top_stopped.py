"""``offloop top`` is stopped and goes on in a shell, and its terminal goes away meanwhile."""

import os
import signal
from contextlib import contextmanager

import pytest

from terminals import RUN, SERVICE, TOP, Terminal, program, terminal

pytestmark = pytest.mark.timeout(120)

SHELL = ["bash", "--norc", "--noprofile", "-i"]


@contextmanager
def in_a_shell(pid):
    """``offloop top`` as a job of a shell: the terminal, and its process."""
    shown = Terminal(SHELL, PS1="shell> ", HISTFILE="")
    try:
        shown.wait_for("shell>")
        shown.press(" ".join(TOP) + f" {pid}\r")
        shown.wait_for("BLOCKED", "quit")
        with open(f"/proc/{shown.process.pid}/task/{shown.process.pid}/children") as children:
            (job,) = map(int, children.read().split())
        yield shown, job
    finally:
        shown.close()


def stopped_by_key(shown, _job):
    shown.press("\x1a")


def stopped_by_signal(_shown, job):
    os.kill(job, signal.SIGTSTP)


def stopped_at_once(_shown, job):
    os.kill(job, signal.SIGSTOP)


@pytest.mark.parametrize("stop", [stopped_by_key, stopped_by_signal, stopped_at_once])
def test_a_stop_gives_the_terminal_to_the_shell_until_it_goes_on(tmp_path, stop):
    gate = tmp_path / "gate"
    with program(tmp_path, SERVICE, str(gate), under=RUN) as service:
        with in_a_shell(service.pid) as (shown, job):
            given_back = 0
            for _ in range(2):
                stop(shown, job)
                shown.wait_for("Stopped", "shell>")
                # SIGSTOP leaves it no time to give the screen back.
                given_back += stop is not stopped_at_once
                assert shown.written.count(b"\x1b[?1049l") == given_back
                shown.press("echo $((6*7))typed\r")
                shown.wait_for("42typed")
                shown.press("fg\r")
                shown.wait_for("BLOCKED", "culprits", "quit", "help")
                shown.wait_without("42typed")
                # It has the keys as they are pressed, without a line's end.
                shown.press("?")
                shown.wait_for("asks twice")
                shown.press("\x1b")
                shown.wait_without("asks twice")
            shown.press("q")
            shown.wait_for(is_so=lambda _: shown.written.count(b"\x1b[?1049l") > given_back)
            shown.press("echo $((6*7))after\r")
            shown.wait_for("42after")
        assert service.poll() is None


def test_without_a_shell_a_stop_is_no_end(tmp_path):
    gate = tmp_path / "gate"
    with program(tmp_path, SERVICE, str(gate), under=RUN) as service:
        with terminal(str(service.pid)) as shown:
            shown.wait_for("BLOCKED")
            shown.press("\x1a?")
            shown.wait_for("asks twice")
            shown.press("q")
            assert shown.end() == 0


@pytest.mark.parametrize("program_ends", [False, True])
def test_it_ends_with_a_terminal_that_goes_away_while_it_is_stopped(tmp_path, program_ends):
    gate = tmp_path / "gate"
    with program(tmp_path, SERVICE, str(gate), under=RUN) as service:
        with terminal(str(service.pid)) as shown:
            shown.wait_for("BLOCKED")
            shown.process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, shown.process.pid, os.WSTOPPED | os.WNOWAIT)
            if program_ends:
                service.kill()
                service.wait()
            # The system has it go on then, with a signal that the terminal is gone.
            assert shown.hang_up() > 0
