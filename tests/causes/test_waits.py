"""A thread that waits is found to wait, and what it waits for is named."""

import os
import select
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cause_tools import Subject, started, waits_for

pytestmark = pytest.mark.quick

LONG = 3600


def named(address: tuple[str, int]) -> str:
    """An address as it is shown."""
    host, port = address
    return f"{host}:{port}"


@pytest.fixture
def connection():
    """Two ends of a connection over loopback, and the address of the second."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        with client, accepted:
            yield client, accepted, named(server.getsockname())


def test_sleep():
    def sleep(subject: Subject) -> None:
        while not subject.stop:
            time.sleep(0.3)

    with started(sleep) as subject:
        waits_for(subject, "sleep")


@pytest.mark.parametrize("timeout", [None, LONG])
def test_a_socket_that_is_read(connection, timeout):
    ours, theirs, address = connection
    ours.settimeout(timeout)
    with started(lambda _: ours.recv(1), lambda: theirs.send(b"x")) as subject:
        waits_for(subject, "socket", address)


def test_a_socket_that_is_written(connection):
    ours, theirs, address = connection

    def send(_subject: Subject) -> None:
        with pytest.raises(ConnectionError):
            ours.sendall(bytes(1 << 26))

    with started(send, theirs.close) as subject:
        waits_for(subject, "socket", address)


@pytest.mark.parametrize("timeout", [None, LONG])
def test_a_server_that_accepts(timeout):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(timeout)

        def come() -> None:
            socket.create_connection(server.getsockname()).close()

        with started(lambda _: server.accept()[0].close(), come) as subject:
            waits_for(subject, "socket")


def test_a_connection_that_is_not_accepted():
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        # The queue holds one; what comes after it is not answered.
        with socket.create_connection(address), started_to_connect(client, address) as subject:
            waits_for(subject, "socket", named(address))


def started_to_connect(client: socket.socket, address: tuple[str, int]):
    """A thread that connects, until the socket is shut down."""

    def connect(_subject: Subject) -> None:
        with pytest.raises(OSError, match=r"."):
            client.connect(address)

    return started(connect, lambda: client.shutdown(socket.SHUT_RDWR))


def test_a_local_socket_without_an_address():
    ours, theirs = socket.socketpair()
    with ours, theirs, started(lambda _: ours.recv(1), theirs.close) as subject:
        waits_for(subject, "socket")


def test_a_named_pipe_that_is_read(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)

    def read(_subject: Subject) -> None:
        with open(path, "rb", buffering=0) as file:
            file.read(1)

    with started(read, lambda: os.write(writer, b"x")) as subject:
        waits_for(subject, "descriptor", str(path))
    os.close(writer)


def test_a_named_pipe_that_is_opened(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def end() -> None:
        os.close(os.open(path, os.O_WRONLY))

    with started(lambda _: path.read_bytes(), end) as subject:
        waits_for(subject, "file", str(path))


def test_a_pipe():
    reader, writer = os.pipe()
    name = os.readlink(f"/proc/self/fd/{reader}")
    with started(lambda _: os.read(reader, 1), lambda: os.close(writer)) as subject:
        waits_for(subject, "descriptor", name)
    os.close(reader)


@pytest.mark.parametrize("poller", ["poll", "select"])
def test_one_of_several_descriptors(connection, poller):
    ours, theirs, address = connection
    reader, writer = os.pipe()

    def poll(_subject: Subject) -> None:
        if poller == "select":
            select.select([reader, ours], [], [])
        else:
            polled = select.poll()
            polled.register(reader, select.POLLIN)
            polled.register(ours, select.POLLIN)
            polled.poll()

    with started(poll, lambda: theirs.send(b"x")) as subject:
        waits_for(subject, "socket", address)
    os.close(reader)
    os.close(writer)


def test_a_lock():
    lock = threading.Lock()
    lock.acquire()
    with started(lambda _: lock.acquire(), lock.release) as subject:
        waits_for(subject, "lock")


def test_a_lock_for_a_time():
    lock = threading.Lock()
    lock.acquire()
    with started(lambda _: lock.acquire(timeout=LONG), lock.release) as subject:
        waits_for(subject, "lock")


def test_a_condition():
    condition = threading.Condition()

    def wait(_subject: Subject) -> None:
        with condition:
            condition.wait()

    def end() -> None:
        with condition:
            condition.notify()

    with started(wait, end) as subject:
        waits_for(subject, "lock")


def test_an_event():
    event = threading.Event()
    with started(lambda _: event.wait(), event.set) as subject:
        waits_for(subject, "lock")


def test_the_end_of_a_thread():
    event = threading.Event()
    with started(lambda _: event.wait(), event.set) as waited:
        with started(lambda _: waited.join(), event.set) as subject:
            waits_for(subject, "lock")


def test_a_child_process():
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    assert child.stdin is not None
    with started(lambda _: child.wait(), child.stdin.close) as subject:
        waits_for(subject, "child", child.pid)


def test_a_child_that_is_run():
    reader, writer = os.pipe()
    os.set_inheritable(writer, False)
    seen = []

    def run(_subject: Subject) -> None:
        subprocess.run(["cat"], stdin=reader, check=True)

    with started(run, lambda: os.close(writer)) as subject:
        children = Path(f"/proc/self/task/{subject.native_id}/children")
        while not seen:
            seen = [int(pid) for pid in children.read_text().split()]
        waits_for(subject, "child", seen[0])
    os.close(reader)


@pytest.mark.parametrize("poller", ["waitid", "poll"])
def test_a_child_that_is_waited_for_by_descriptor(poller):
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    assert child.stdin is not None
    descriptor = os.pidfd_open(child.pid)

    def wait(_subject: Subject) -> None:
        if poller == "waitid":
            os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOWAIT)
        else:
            polled = select.poll()
            polled.register(descriptor, select.POLLIN)
            polled.poll()

    with started(wait, child.stdin.close) as subject:
        waits_for(subject, "child", child.pid)
    child.wait()
    os.close(descriptor)


def test_any_child_process():
    program = (
        "import os, subprocess, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from cause_tools import started, waits_for\n"
        "child = subprocess.Popen(['cat'], stdin=subprocess.PIPE)\n"
        "with started(lambda _: os.wait(), child.stdin.close) as subject:\n"
        "    waits_for(subject, 'child')\n"
    )
    folder = Path(__file__).parent
    subprocess.run([sys.executable, "-c", program, folder], check=True, timeout=50)
