"""The private socket: what it tells, whatever the loop does, and what it refuses."""

import os
import socket
import stat
import threading
from pathlib import Path

import pytest

import offloop
from viewers import Viewer, running

KEEPS_THE_GIL = """
import asyncio, ctypes, os

def keep():
    # A call of C that keeps the GIL until a byte comes.
    ctypes.PyDLL(None).read(0, ctypes.create_string_buffer(1), 1)

async def wait():
    await asyncio.Event().wait()

async def main():
    waits = asyncio.create_task(wait(), name="waits for ever")
    await asyncio.sleep(0)
    print("ready", flush=True)
    # Not `input`: it would take the byte for `keep` as well, if that is there already.
    await asyncio.to_thread(os.read, 0, 1)
    keep()
    print("free", flush=True)
    await waits

asyncio.run(main())
"""

WORKS = """
import asyncio, time, offloop

def work():
    time.sleep(1000)

async def wait():
    await asyncio.Event().wait()

async def main():
    waits = asyncio.create_task(wait(), name="waits for ever")
    try:
        await offloop.to_process(work)
    except offloop.WorkerCrashed as error:
        print(type(error).__name__, flush=True)
    try:
        await waits
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        input()

asyncio.run(main())
"""


@pytest.fixture
def private(tmp_path, monkeypatch):
    """A folder for sockets of this process."""
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def viewer(private):
    """A connection to this process."""
    with offloop.views() as views, Viewer(views.path) as viewer:
        yield viewer


def is_blamed(document):
    """Whether a loop is blocked, and the source line is known by now."""
    culprits = [stall["culprit"] for stall in document["stalls"][-1:]]
    return document["loops"][0]["blocked"] and any(each and each["source"] for each in culprits)


def test_program_is_told_also_while_a_call_keeps_the_gil(tmp_path):
    with running(KEEPS_THE_GIL, tmp_path) as program:
        assert program.heard() == "ready"
        with Viewer(program.path) as viewer:
            before = viewer.document_when(lambda it: it["tasks"]["total"] == 2)
            program.tell()
            blocked = viewer.document_when(is_blamed)
            with Viewer(program.path) as second:
                assert second.document()["loops"][0]["blocked"]
            program.tell("x")
            assert program.heard() == "free"
            after = viewer.document_when(lambda it: not it["loops"][0]["blocked"])
    assert before["process"]["pid"] == program.process.pid
    assert before["process"]["program"] == "program.py"
    names = {task["name"]: task for task in before["tasks"]["tasks"]}
    stands = names["waits for ever"]["stack"]
    assert [place["function"] for place in stands] == ["wait", "Event.wait"]
    assert (names["waits for ever"]["state"], stands[0]["line"]) == ("waiting", 9)
    stall = blocked["stalls"][-1]
    assert (stall["is_over"], stall["culprit"]["function"]) == (False, "keep")
    assert "PyDLL" in stall["culprit"]["source"]
    assert blocked["culprits"][0]["line"] == 6
    # The reading of before stays, and tells its age.
    assert blocked["tasks"]["total"] >= 2
    assert blocked["tasks"]["age_seconds"] > 0
    assert after["stalls"][-1]["is_over"]
    assert after["loops"][0]["statistics"]["lag"]["count"] > 0


def test_call_is_killed_and_task_is_cancelled(tmp_path):
    with running(WORKS, tmp_path) as program:
        # The first line comes when the worker was killed.
        while not program.path.exists():
            assert program.process.poll() is None
        with Viewer(program.path) as viewer:

            def workers(document):
                fleets = document["pools"]["fleets"]
                return [worker for fleet in fleets for worker in fleet["workers"]]

            found = viewer.document_when(
                lambda it: any(worker["running"] for worker in workers(it))
            )
            (worker,) = [worker for worker in workers(found) if worker["running"]]
            assert worker["running"]["function"].endswith("work")
            assert viewer.ask(ask="kill_call", pid=worker["pid"]) == {"version": 1, "done": True}
            assert program.heard() == "WorkerCrashed"

            def waiting(document):
                tasks = document["tasks"]["tasks"]
                return [task for task in tasks if task["name"] == "waits for ever"]

            (task,) = waiting(viewer.document_when(waiting))
            wrong = viewer.ask(ask="cancel_task", task=task["id"], name="other")
            assert "'waits for ever' now, not 'other'" in wrong["error"]
            assert viewer.ask(ask="cancel_task", task=task["id"], name=task["name"])["done"]
            assert program.heard() == "cancelled"
            kinds = [it["kind"] for it in viewer.document()["events"]["events"]]
            assert kinds[:3] == ["start", "kill", "crash"]


def test_socket_is_of_this_user_alone_and_goes_with_its_views(private):
    with offloop.views() as views:
        facts = os.stat(views.path)
        assert (stat.S_ISSOCK(facts.st_mode), stat.S_IMODE(facts.st_mode)) == (True, 0o600)
        assert offloop.views() is views
        path = views.path
    assert views.path is None
    assert not os.path.exists(path)
    with offloop.views() as views:
        assert views.path == path


def test_socket_that_answers_is_left_alone_and_one_that_does_not_makes_way(private):
    # As a container leaves it that has process ids of its own, and shares the folder.
    taken = private / f"offloop-{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(taken))
        other.listen()
        inode = taken.stat().st_ino
        with offloop.views() as views, Viewer(views.path) as viewer:
            assert views.path == str(private / f"offloop-{os.getpid()}-2.sock")
            assert viewer.document()["process"]["pid"] == os.getpid()
        assert sorted(private.iterdir()) == [taken]
        assert taken.stat().st_ino == inode
    with offloop.views() as views:
        assert views.path == str(taken)


def test_old_reading_makes_way_for_one_of_now(viewer):
    def age_after_a_second():
        threading.Event().wait(1.2)
        return viewer.document()["tasks"]["age_seconds"]

    viewer.document_when(lambda it: it["tasks"]["age_seconds"] is not None)
    # A reading may come too late for one document, where other programs have the processors.
    assert any(age_after_a_second() < 1 for _ in range(5))


def test_folder_that_another_user_may_write_to_is_not_used(private, monkeypatch):
    private.chmod(0o777)
    monkeypatch.setenv("TMPDIR", str(private))
    own = private / f"offloop-{os.geteuid()}"
    with offloop.views() as views:
        assert views.path == str(own / f"offloop-{os.getpid()}.sock")
    assert stat.S_IMODE(own.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (b'{"version":2,"ask":"document"}', "version 2 is asked for, this process speaks 1"),
        (b'{"ask":"document"}', "version 0 is asked for, this process speaks 1"),
        (
            b'{"version":1,"ask":"sing"}',
            "is asked for; document, kill_call",
        ),
        (b'{"version":1,"ask":"kill_call"}', "kill_call needs the pid of a worker"),
        (b'{"version":1,"ask":"kill_call","pid":1}', "process 1 is no worker of this program"),
        (b'{"version":1,"ask":"cancel_task"}', "cancel_task needs the id of a task"),
        (b'{"version":1,"ask":"cancel_task","task":"1"}', "there is no task 1 any more"),
        (b'{"version":1,"ask":"document","after":-1}', "this is no question"),
        (b"hello", "this is no question"),
        (b"\xff\xfe", "this is no question"),
        (b"", "this is no question"),
    ],
)
def test_bad_questions_get_one_line_and_the_viewer_stays(viewer, question, words):
    viewer.send(question + b"\n")
    assert words in viewer.line().decode()
    assert viewer.document()["version"] == 1


@pytest.mark.parametrize("question", [b"x" * 5000, b"[" * 4096, b'{"version":1'])
def test_question_without_an_end_is_the_last_one(viewer, question):
    viewer.send(question)
    viewer.socket.shutdown(1)
    assert b"a question of more than 4096 bytes" in viewer.line()
    assert viewer.line() == b""


def test_events_are_told_after_a_number(viewer):
    found = viewer.document()["events"]
    later = viewer.document(after=found["last"])["events"]
    assert (later["events"], later["missed"]) == ([], 0)


def test_seventeenth_viewer_is_refused_until_one_leaves(private):
    with offloop.views() as views:
        viewers = [Viewer(views.path) for _ in range(16)]
        assert all(viewer.document()["version"] == 1 for viewer in viewers)
        with Viewer(views.path) as refused:
            assert b"16 viewers are attached, limit 16" in refused.line()
            assert refused.line() == b""
        viewers.pop().close()
        while True:
            # Its place is free once the engine has seen the end.
            with Viewer(views.path) as late:
                late.send(b'{"version":1,"ask":"document"}\n')
                if b'"process"' in late.line():
                    break
        for viewer in viewers:
            viewer.close()


def test_viewer_that_reads_nothing_keeps_no_other_waiting(private):
    with offloop.views() as views, Viewer(views.path) as deaf, Viewer(views.path) as other:
        deaf.socket.setblocking(False)
        question = b'{"version":1,"ask":"document"}\n' * 100
        with pytest.raises(BlockingIOError):
            while True:
                deaf.socket.send(question)
        assert other.document()["version"] == 1


def test_forked_child_has_a_socket_of_its_own_once_a_loop_runs(private):
    told = """
import asyncio, os, offloop

def threads():
    return len(os.listdir("/proc/self/task"))

async def main():
    print(views.path != before, os.path.exists(views.path), threads() > 1, flush=True)

with offloop.views() as views:
    before = views.path
    pid = os.fork()
    if pid == 0:
        # A daemon forks twice.
        child = os.fork()
        if child:
            os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        # It closes all descriptors, and so must find none that is used.
        print(views.path, threads(), flush=True)
        os.closerange(3, 100)
        asyncio.run(main())
        offloop.views.stop()
        os._exit(0)
    os.waitpid(pid, 0)
    print(views.path == before, os.path.exists(before), flush=True)
print(os.path.exists(before))
"""
    with running(told, private, "--no-watch", "--no-views") as program:
        lines = [program.heard() for _ in range(4)]
        assert program.process.wait() == 0
    assert lines == ["None 1", "True True True", "True True", "False"]


def test_socket_is_gone_when_the_program_is_over(tmp_path):
    with running("input()", tmp_path) as program:
        while not program.path.exists():
            assert program.process.poll() is None
        program.tell()
        assert program.process.wait() == 0
        assert not program.path.exists()


def test_program_may_refuse_views(tmp_path):
    with running("print(1); input()", tmp_path, "--no-views") as program:
        assert program.heard() == "1"
        assert not program.path.exists()


def test_nothing_wakes_up_while_nothing_is_asked(private):
    def wake_ups():
        """How often the engine went to sleep until now."""
        for thread in Path("/proc/self/task").iterdir():
            if (thread / "comm").read_text().strip() == "offloop-engine":
                status = (thread / "status").read_text()
                return int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])
        raise AssertionError("there is no engine")

    with offloop.views() as views, Viewer(views.path) as viewer:
        viewer.document()
        before = wake_ups()
        # In a second of silence: it may still have been on its way to sleep, once.
        threading.Event().wait(1.0)
        assert wake_ups() - before <= 1
