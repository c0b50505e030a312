"""In which context a connection's callbacks run: the standard loop of each version is the measure.

From Python 3.15 on a connection has one context for all of them; before, each kind of callback has
a copy of its own.
"""

import asyncio
import contextvars
import socket
import sys

import pytest

from compared import compare
from steps import until
from tls_ends import client_context, server_context

BIG = bytes(8 << 20)
ONE_CONTEXT = sys.version_info >= (3, 15)
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nothing")


class Noting(asyncio.Protocol):
    """Notes in each callback which callback has set the variable before, and sets it."""

    def __init__(self, seen: list, name: str, over: asyncio.Future) -> None:
        self.seen, self.name, self.over = seen, name, over
        self.transport: asyncio.Transport | None = None
        self.arrived = 0

    def note(self, callback: str) -> None:
        """Note the callback, and what is set when it is called."""
        self.seen.append((self.name, callback, VARIABLE.get()))
        VARIABLE.set(f"{callback} of {self.name}")

    def connection_made(self, transport):
        self.note("connection_made")
        self.transport = transport
        asyncio.get_running_loop().call_soon(self.note, "call_soon")

    def data_received(self, data):
        # In how many pieces much arrives is no matter of contexts.
        if self.arrived == 0:
            self.note("data_received")
        self.arrived += len(data)

    def pause_writing(self):
        self.note("pause_writing")

    def resume_writing(self):
        self.note("resume_writing")

    def eof_received(self):
        self.note("eof_received")

    def connection_lost(self, exc):
        self.note("connection_lost")
        self.over.set_result(None)


def own(seen: list, name: str) -> list:
    """What one end has noted, for the order between two ends is not settled."""
    return [entry for entry in seen if entry[0] == name]


@pytest.mark.quick
def test_callbacks_of_a_client_run_in_its_context():
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        VARIABLE.set("program")
        protocol = Noting(seen, "client", loop.create_future())
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        seen.append(("program", VARIABLE.get()))
        VARIABLE.set("program, later")
        theirs.send(b"one")
        await until(lambda: protocol.arrived == 3)
        transport.write(BIG)
        taken = 0
        while taken < len(BIG):
            taken += len(await loop.sock_recv(theirs, 1 << 20))
        transport.pause_reading()
        await asyncio.sleep(0)
        transport.resume_reading()
        protocol.arrived = 0
        theirs.send(b"two")
        await until(lambda: protocol.arrived == 3)
        theirs.close()
        await protocol.over
        seen.append(("program", VARIABLE.get()))

    seen = compare(scenario)
    assert [entry[1] for entry in seen if entry[0] == "client"] == [
        *("connection_made", "call_soon", "data_received", "pause_writing", "resume_writing"),
        *("data_received", "eof_received", "connection_lost"),
    ]
    first_data = next(entry for entry in seen if entry[1] == "data_received")
    is_one = first_data[2] == "connection_made of client"
    assert is_one == ONE_CONTEXT


@pytest.mark.quick
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_connections_of_a_server_have_contexts_of_their_own(encrypted):
    async def scenario(seen):
        loop = asyncio.get_running_loop()
        served = []

        def accept():
            served.append(Noting(found, f"server {len(served)}", loop.create_future()))
            return served[-1]

        found: list = []
        VARIABLE.set("program")
        server = await loop.create_server(
            accept, "127.0.0.1", 0, ssl=server_context() if encrypted else None
        )
        VARIABLE.set("program, later")
        address = server.sockets[0].getsockname()
        for number in range(2):
            client = Noting(found, f"client {number}", loop.create_future())
            options = {"ssl": client_context(), "server_hostname": "localhost"} if encrypted else {}
            await loop.create_connection(lambda made=client: made, *address, **options)
            await until(lambda number=number: len(served) > number and served[number].transport)
            served[number].transport.write(b"one")
            client.transport.write(b"two")
            await until(lambda client=client: client.arrived == 3)
            await until(lambda number=number: served[number].arrived == 3)
            client.transport.close()
            await client.over
            await served[number].over
        server.close()
        await server.wait_closed()
        for end in ("server 0", "client 0", "server 1", "client 1"):
            seen.extend(own(found, end))

    seen = compare(scenario)
    assert [entry[1] for entry in seen if entry[0] == "server 1"][:3] == [
        *("connection_made", "call_soon", "data_received"),
    ]


if ONE_CONTEXT:
    # Before, no task can share the context of a connection.

    @pytest.mark.quick
    def test_task_in_the_context_of_its_connection_writes_more_than_fits():
        # The loop must not enter a context that it is in.
        async def scenario(seen):
            loop = asyncio.get_running_loop()
            ours, theirs = socket.socketpair()
            theirs.setblocking(False)
            protocol = Noting(seen, "client", loop.create_future())
            transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
            context = transport._context

            async def write():
                VARIABLE.set("task")
                for _ in range(3):
                    transport.write(BIG)
                    await asyncio.sleep(0)

            task = loop.create_task(write(), context=context)
            taken = 0
            while taken < 3 * len(BIG):
                taken += len(await loop.sock_recv(theirs, 1 << 20))
            await task
            theirs.close()
            await protocol.over
            seen.append(("context", context[VARIABLE]))

        compare(scenario)
