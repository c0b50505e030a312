"""The program ends while a loop runs in a daemon thread: quietly, whatever the loop is at."""

import textwrap

import pytest

from gates import run_program

AT = {
    "steps of a task": """
        async def main():
            ready.set()
            while True:
                await asyncio.sleep(0)
    """,
    "one callback": """
        async def main():
            ready.set()
            while True:
                pass
    """,
    "callbacks": """
        async def main():
            loop = asyncio.get_running_loop()
            def again():
                loop.call_soon(again)
            again()
            ready.set()
            await asyncio.Event().wait()
    """,
    "a stream": """
        class Echo(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport
            def data_received(self, data):
                ready.set()
                self.transport.write(data)

        async def main():
            loop = asyncio.get_running_loop()
            server = await loop.create_server(Echo, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            transport, _ = await loop.create_connection(Echo, *address)
            transport.write(b"x")
            await asyncio.Event().wait()
    """,
    "a task factory": """
        def make(loop, coroutine, **options):
            ready.set()
            for _ in range(100):
                pass
            return asyncio.Task(coroutine, loop=loop, **options)

        async def nothing():
            pass

        async def main():
            asyncio.get_running_loop().set_task_factory(make)
            while True:
                await asyncio.create_task(nothing())
    """,
    "a finalizer of an argument": """
        class Argument:
            def __del__(self):
                ready.set()
                while True:
                    pass

        async def main():
            asyncio.get_running_loop().call_soon(print, Argument()).cancel()
            await asyncio.Event().wait()
    """,
    "calls in debug mode": """
        async def main():
            loop = asyncio.get_running_loop()
            loop.set_debug(True)
            while True:
                ready.set()
                loop.call_soon(int).cancel()
                await asyncio.sleep(0)
    """,
    "waiting": """
        async def main():
            ready.set()
            await asyncio.Event().wait()
    """,
}


SHARED = """
import asyncio, sys, threading
import offloop

ready = threading.Event()
"""
START = """
if {watched}:
    offloop.watch(0.02, words=False)
loop = offloop.new_event_loop()
thread = threading.Thread(target=loop.run_until_complete, args=(main(),), daemon=True)
thread.start()
assert ready.wait(20)
print("ended")
"""


@pytest.mark.quick
@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("at", AT)
def test_the_program_ends_quietly(tmp_path, at, watched):
    program = SHARED + textwrap.dedent(AT[at]) + START.format(watched=watched)
    result = run_program(tmp_path, program)
    assert (result.returncode, result.stdout, result.stderr) == (0, "ended\n", "")
