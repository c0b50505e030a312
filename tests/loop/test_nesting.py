"""Programs that run the loop inside of itself, with nest_asyncio and nest_asyncio2.

Both replace methods in the class of the loop, for the whole process, so each program runs in one of
its own: on the standard loop, and on ours, with the same output.
"""

import os
import sys
import textwrap
from pathlib import Path

import pytest
from test_tools import run_python

OUR_LOOP = "offloop._loop.event_loop"
LIBRARIES = ["nest_asyncio2"]
if sys.version_info < (3, 14):
    # On later ones it loses the current task, on the standard loop as well.
    LIBRARIES.append("nest_asyncio")

BEGINNING = """
    import asyncio, contextvars, sys, warnings
    import offloop
    from {library} import apply

    warnings.simplefilter("ignore", DeprecationWarning)
    loop = {loop}()
    asyncio.set_event_loop(loop)

    async def answer(reader, writer):
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()
    """

SERVES_WHILE_NESTED = """
    async def ask(address, word):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(word)
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return line

    async def deeper(depth, address, outer):
        if depth:
            return asyncio.run(deeper(depth - 1, address, outer))
        reader, writer = outer
        writer.write(b"from inside\\n")
        await asyncio.sleep(0.001)
        return await asyncio.gather(ask(address, b"new\\n"), reader.readline())

    async def main():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        outer = reader, writer = await asyncio.open_connection(*address)
        writer.write(b"before\\n")
        print(await reader.readline())
        apply()
        print(asyncio.run(deeper(0, address, outer)))
        print(loop.run_until_complete(deeper(3, address, outer)))
        print(await asyncio.to_thread(abs, -5))
        child = await asyncio.create_subprocess_exec("echo", "child", stdout=-1)
        print(loop.run_until_complete(child.communicate()))
        writer.write(b"after\\n")
        print(await reader.readline())
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return "ended"

    print(loop.run_until_complete(main()))
    print(loop.run_until_complete(asyncio.sleep(0, "again")))
    loop.close()
    """

KEEPS_ORDER = """
    apply()
    seen = []
    variable = contextvars.ContextVar("variable")

    async def worker(name):
        variable.set(name)
        for step in range(3):
            seen.append((name, step, variable.get(), asyncio.current_task().get_name()))
            await asyncio.sleep(0)
        return name

    def nested(name):
        seen.append(("begin", name))
        loop.call_soon(seen.append, ("soon", name))
        loop.call_later(0, seen.append, ("timer", name))
        cancelled = loop.call_later(0, seen.append, "cancelled")
        cancelled.cancel()
        result = loop.run_until_complete(loop.create_task(worker(name), name=name))
        seen.append(("end", result))

    async def main():
        tasks = [loop.create_task(worker(name), name=name) for name in ("one", "two")]
        loop.call_soon(nested, "first")
        await asyncio.sleep(0)
        nested("second")
        loop.call_later(0.001, nested, "third")
        await asyncio.sleep(0.01)
        return [await task for task in tasks]

    print(loop.run_until_complete(main()))
    print(*seen, sep="\\n")
    try:
        loop.run_until_complete(asyncio.wait_for(asyncio.sleep(60), 0.001))
    except TimeoutError:
        print("timeout")
    loop.call_soon(loop.stop)
    try:
        loop.run_until_complete(asyncio.sleep(60))
    except RuntimeError as error:
        print(error)
    loop.close()
    """

READS_BY_OTHERS = """
    import socket

    apply()

    class Nests(asyncio.Protocol):
        def __init__(self):
            self.received = []

        def data_received(self, data):
            print(data, loop.run_until_complete(loop.sock_recv(mine, 100)))
            self.received.append(data)

    async def main():
        global mine
        one, two = socket.socketpair()
        mine, other = socket.socketpair()
        for end in (one, two, mine, other):
            end.setblocking(False)
        transport, protocol = await loop.create_connection(Nests, sock=one)
        for number in range(3):
            loop.call_later(0.001, other.send, b"inner %d" % number)
            two.send(b"outer %d" % number)
            while len(protocol.received) <= number:
                await asyncio.sleep(0)
        transport.close()
        await asyncio.sleep(0)
        for end in (two, mine, other):
            end.close()

    loop.run_until_complete(main())
    loop.close()
    """

PROGRAMS = {
    "serves while nested": (SERVES_WHILE_NESTED, ["b'BEFORE\\n'", "ended", "again"]),
    "keeps order": (KEEPS_ORDER, ["('end', 'third')", "timeout"]),
    "reads in a callback of a stream": (READS_BY_OTHERS, ["b'outer 2' b'inner 2'"]),
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_nested_program_does_the_same_on_both_loops(name, library, tmp_path):
    program, expected = PROGRAMS[name]
    printed = []
    for loop in ("asyncio.SelectorEventLoop", "offloop.EventLoop"):
        source = textwrap.dedent(BEGINNING) + textwrap.dedent(program)
        source = source.replace("{library}", library).replace("{loop}", loop)
        (tmp_path / "app.py").write_text(source)
        done = run_python("-W", "error", str(tmp_path / "app.py"))
        assert (done.returncode, done.stderr) == (0, "")
        printed.append(done.stdout)
    assert printed[1] == printed[0]
    for line in expected:
        assert line in printed[1].splitlines()


CELLS = [
    "print(type(asyncio.get_running_loop()).__module__)",
    """
    async def answer(reader, writer):
        while line := await reader.readline():
            writer.write(line.upper())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"before\\n")
    print(await reader.readline())
    """,
    "import {library}; {library}.apply()",
    """
    async def ask(word):
        writer.write(word)
        await asyncio.sleep(0.001)
        return await reader.readline()

    def plainly(word):
        return asyncio.run(ask(word))

    async def deeply():
        sleeps = [asyncio.create_task(asyncio.sleep(0.001, number)) for number in range(3)]
        return plainly(b"deep\\n"), await asyncio.gather(*sleeps)

    print(plainly(b"plain\\n"), asyncio.get_event_loop().run_until_complete(ask(b"method\\n")))
    print(asyncio.run(deeply()), await deeply(), await asyncio.to_thread(abs, -1))
    """,
    "server.close(); writer.close(); print(await reader.read())",
]


def shown_by_a_kernel(cells: list[str], policy: str, home: Path) -> list[tuple[str, str]]:
    """Run cells in a kernel of IPython; return for each how it ended, and what it has shown."""
    from jupyter_client import KernelManager
    from jupyter_client.kernelspec import KernelSpec

    start = f"{policy}\nfrom ipykernel.kernelapp import launch_new_instance\nlaunch_new_instance()"
    # Addresses of sockets are short.
    manager = KernelManager(transport="ipc", ip=str(home / "k"), connection_file=str(home / "file"))
    manager._kernel_spec = KernelSpec(
        argv=[sys.executable, "-c", start, "-f", "{connection_file}"], language="python"
    )
    manager.start_kernel(env=os.environ | {"HOME": str(home), "IPYTHONDIR": str(home)})
    client = manager.client()
    client.start_channels()
    shown = []
    try:
        client.wait_for_ready(timeout=50)
        for cell in cells:
            texts: list[str] = []

            def keep(message, texts=texts):
                content = message["content"]
                if message["msg_type"] == "stream":
                    texts.append(content["text"])
                elif message["msg_type"] == "error":
                    texts.append(f"{content['ename']}: {content['evalue']}")

            reply = client.execute_interactive(cell, timeout=50, output_hook=keep)
            shown.append((reply["content"]["status"], "".join(texts)))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
    return shown


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("library", LIBRARIES)
def test_notebook_nests_on_our_loop_as_on_the_standard_one(library, tmp_path):
    cells = [textwrap.dedent(cell).replace("{library}", library) for cell in CELLS]
    cells[0] = "import asyncio\n" + cells[0]
    standard = shown_by_a_kernel(cells, "", tmp_path)
    ours = shown_by_a_kernel(cells, "import offloop; offloop.install()", tmp_path)
    assert (standard[0], ours[0]) == (("ok", "asyncio.unix_events\n"), ("ok", f"{OUR_LOOP}\n"))
    assert ours[1:] == standard[1:]
    assert {ended for ended, _ in ours} == {"ok"}
    assert "b'PLAIN\\n' b'METHOD\\n'\n" in ours[3][1]
