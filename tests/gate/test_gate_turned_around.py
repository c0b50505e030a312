"""What other tools test of blocking calls and leaks, turned around: the gate blames each that does
block once, at its line, and none of those that do not.

Other tools know functions by name, and refuse a call whether it blocks or not. The gate knows none:
here each function waits, or has much to do. What takes microseconds blocks no loop, and is allowed.
"""

BLOCKING = """
    import asyncio, contextlib, importlib, io, os, socket, sqlite3, subprocess, sys, tarfile
    import tempfile, threading, time
    import pytest

    pytestmark = pytest.mark.asyncio
    SECONDS = 0.3

    def later(call, *args):
        threading.Timer(SECONDS, call, args).start()

    @pytest.fixture
    def pipe():
        reading, writing = os.pipe()
        yield reading, writing
        for fd in (reading, writing):
            with contextlib.suppress(OSError):
                os.close(fd)

    @pytest.fixture
    def full(pipe):
        os.set_blocking(pipe[1], False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(pipe[1], bytes(1 << 16))
        os.set_blocking(pipe[1], True)
        return pipe

    @pytest.fixture
    def pair():
        ours, other = socket.socketpair()
        with ours, other:
            yield ours, other

    @pytest.fixture
    def full_pair(pair):
        pair[0].setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                pair[0].send(bytes(1 << 16))
        pair[0].setblocking(True)
        return pair

    def emptied(fd):
        while len(os.read(fd, 1 << 16)) == 1 << 16:
            pass

    async def test_sleep():
        time.sleep(SECONDS)  # blamed

    async def test_lock():
        lock = threading.Lock()
        lock.acquire()
        later(lock.release)
        lock.acquire()  # blamed

    async def test_thread_join():
        thread = threading.Thread(target=time.sleep, args=(SECONDS,))
        thread.start()
        thread.join()  # blamed

    async def test_event():
        event = threading.Event()
        later(event.set)
        event.wait()  # blamed

    async def test_os_read(pipe):
        later(os.write, pipe[1], b"1")
        os.read(pipe[0], 1)  # blamed

    async def test_os_write(full):
        later(emptied, full[0])
        os.write(full[1], bytes(1 << 14))  # blamed

    async def test_buffered_read(pipe):
        later(os.write, pipe[1], b"12345678")
        with open(pipe[0], "rb", closefd=False) as file:
            file.read(8)  # blamed

    async def test_text_read(pipe):
        later(os.write, pipe[1], b"one\\n")
        with open(pipe[0], encoding="ascii", closefd=False) as file:
            file.readline()  # blamed

    async def test_raw_write(full):
        later(emptied, full[0])
        with open(full[1], "wb", buffering=0, closefd=False) as file:
            file.write(bytes(1 << 14))  # blamed

    async def test_open_of_a_fifo(tmp_path):
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        later(lambda: os.close(os.open(fifo, os.O_WRONLY)))
        with open(fifo, "rb"):  # blamed
            pass

    async def test_receive(pair):
        later(pair[1].send, b"1")
        pair[0].recv(1)  # blamed

    async def test_receive_into(pair):
        later(pair[1].send, b"1")
        pair[0].recv_into(bytearray(1))  # blamed

    async def test_receive_with_a_timeout(pair):
        pair[0].settimeout(SECONDS)
        with pytest.raises(TimeoutError):
            pair[0].recv(1)  # blamed

    async def test_send(full_pair):
        later(full_pair[1].recv, 1 << 20)
        full_pair[0].send(bytes(1 << 14))  # blamed

    async def test_accept():
        with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
            later(client.connect, server.getsockname())
            server.accept()[0].close()  # blamed

    async def test_select(pair):
        import select
        select.select([pair[0]], [], [], SECONDS)  # blamed

    async def test_subprocess_run():
        subprocess.run(["sleep", str(SECONDS)])  # blamed

    async def test_subprocess_wait():
        with subprocess.Popen(["sleep", str(SECONDS)]) as child:
            child.wait()  # blamed

    async def test_system():
        os.system(f"sleep {SECONDS}")  # blamed

    async def test_sqlite():
        numbers = "with recursive n(i) as (select 1 union all select i + 1 from n) "
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            until = time.thread_time() + SECONDS
            connection.set_progress_handler(lambda: time.thread_time() > until, 100_000)
            with pytest.raises(sqlite3.OperationalError):
                connection.execute(numbers + "select sum(i) from n").fetchall()  # blamed

    async def test_python_computes():
        until = time.thread_time() + SECONDS
        while time.thread_time() < until:  # blamed
            pass  # blamed

    async def test_run_coroutine_of_another_loop():
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        future = asyncio.run_coroutine_threadsafe(asyncio.sleep(SECONDS), loop)
        future.result()  # blamed
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
"""

COMPUTING = ("test_sqlite", "test_python_computes")

HARMLESS = """
    import asyncio, contextlib, importlib, io, os, socket, sqlite3, sys, tarfile, threading, time
    import pytest

    pytestmark = pytest.mark.asyncio

    async def test_send_non_blocking():
        ours, other = socket.socketpair()
        with ours, other:
            ours.setblocking(False)
            ours.send(b"Hello")
            with contextlib.suppress(BlockingIOError):
                ours.recv(1)

    async def test_write_std():
        sys.stdout.write("test")
        sys.stderr.write("test")

    async def test_lock_that_is_not_waited_for():
        lock = threading.Lock()
        assert lock.acquire()
        assert lock.acquire(timeout=0) is False
        assert lock.acquire(blocking=False) is False

    async def test_thread_start():
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()

    async def test_import_module():
        importlib.reload(importlib.import_module("colorsys"))

    async def test_null_device():
        fd = os.open(os.devnull, os.O_NONBLOCK | os.O_RDWR)
        os.read(fd, 1)
        os.write(fd, b"foo")
        os.close(fd)

    async def test_sleep_of_nothing():
        time.sleep(0)

    async def test_small_files(tmp_path):
        file = tmp_path / "a"
        file.write_bytes(b"foo")
        assert file.read_text() == "foo"
        os.stat(file), os.getcwd(), os.listdir(tmp_path), os.access(file, os.R_OK)
        os.rename(file, tmp_path / "b")
        os.mkdir(tmp_path / "c"), os.rmdir(tmp_path / "c"), os.unlink(tmp_path / "b")

    async def test_small_query():
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            connection.execute("SELECT 1").fetchall()

    async def test_allowed():
        time.sleep(0.3)  # offloop: allow (as a list of allowed functions would)

    async def test_waiting_as_it_should():
        await asyncio.sleep(0.3)
        await asyncio.to_thread(time.sleep, 0.3)
        child = await asyncio.create_subprocess_exec("sleep", "0.3")
        await child.wait()

    async def test_many_short_ones_with_awaits_between():
        for _ in range(30):
            time.sleep(0.01)
            await asyncio.sleep(0)
"""

LEAKS = """
    import asyncio, uuid
    import pytest

    pytestmark = pytest.mark.asyncio

    async def named(name):
        asyncio.create_task(asyncio.sleep(10), name=name)
        await asyncio.sleep(0.01)

    async def background():
        await asyncio.sleep(0.01)

    # These leave something.

    async def test_leaks_1():
        asyncio.create_task(asyncio.sleep(10))
        await asyncio.sleep(0.01)

    async def test_leaks_1_with_a_name():
        await named("target-task")

    async def test_leaks_2():
        await named("target-task")
        await named("other-task")

    async def test_leaks_3():
        for _ in range(3):
            asyncio.create_task(asyncio.sleep(10))
        await asyncio.sleep(0.01)

    async def test_leaks_9():
        some = uuid.uuid4()
        for number in range(9):
            await named(f"{some}-{number}")

    # These do not.

    async def test_awaited():
        await asyncio.create_task(background())

    async def test_completed():
        task = asyncio.create_task(asyncio.sleep(0.001))
        await task

    async def test_completed_unawaited():
        task = asyncio.create_task(background())
        while not task.done():
            await asyncio.sleep(0.005)

    async def test_cancelled():
        task = asyncio.create_task(asyncio.sleep(10))
        await asyncio.sleep(0.01)
        task.cancel()

    async def test_that_raises():
        with pytest.raises(ValueError):
            await asyncio.create_task(background())
            raise ValueError("test error")

    async def test_without_tasks():
        await asyncio.sleep(0.01)
"""


def blamed_lines(source: str) -> dict[str, set[int]]:
    """The lines of each test that are to be blamed."""
    lines: dict[str, set[int]] = {}
    test = ""
    for number, line in enumerate(source.splitlines(), 1):
        if "def test_" in line:
            test = line.split("def ")[1].split("(")[0]
        if "# blamed" in line:
            lines.setdefault(test, set()).add(number)
    return lines


def test_each_call_that_blocks_is_blamed_once_at_its_line(suite):
    ran = suite(BLOCKING, "--offloop-json=gate.json")
    expected = blamed_lines(BLOCKING)
    # What computes is not measured while the system does not let it.
    for each in ran.json()["unmeasured"]:
        test = each["test"].split("::")[1]
        assert test in COMPUTING, ran.text
        del expected[test]
    assert ran.failed() == dict.fromkeys(expected, "call"), ran.text
    found: dict[str, list[int]] = {}
    for each in ran.json()["findings"]:
        assert (each["kind"], each["file"]) == ("stall", "test_it.py"), each
        found.setdefault(each["test"].split("::")[1], []).append(each["line"])
    assert {test: len(lines) for test, lines in found.items()} == dict.fromkeys(expected, 1)
    wrong = {test: lines for test, lines in found.items() if not set(lines) <= expected[test]}
    assert wrong == {}


def test_no_call_that_does_not_block_is_blamed(suite):
    ran = suite(HARMLESS)
    assert (ran.status, ran.failed()) == (0, {}), ran.text


def test_each_task_that_is_left_is_told_once_and_no_other_one(suite):
    ran = suite(LEAKS, "--offloop-json=gate.json")
    found: dict[str, int] = {}
    for each in ran.json()["findings"]:
        test = each["test"].split("::")[1]
        found[test] = found.get(test, 0) + 1
    assert found == {
        "test_leaks_1": 1,
        "test_leaks_1_with_a_name": 1,
        "test_leaks_2": 2,
        "test_leaks_3": 3,
        "test_leaks_9": 9,
    }, ran.text
