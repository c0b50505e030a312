"""A TLS connection between a server of the program's and a client that the test drives by hand.

Each record passes through the test's hands, which can hold it back, cut it or spoil it.
"""

import asyncio
import socket
import ssl

from tls_ends import client_context, server_context


class Told(asyncio.Protocol):
    """Keeps what it is told, in its order; pieces of data that follow each other are joined."""

    def __init__(self):
        self.events = []
        self.over = asyncio.get_running_loop().create_future()
        self.changed = asyncio.Event()

    def add(self, *event):
        self.events.append(event)
        self.changed.set()

    def connection_made(self, transport):
        self.transport = transport
        self.add("made")

    def data_received(self, data):
        assert type(data) is bytes
        if self.events[-1][0] == "data":
            data = self.events.pop()[1] + data
        self.add("data", data)

    def eof_received(self):
        self.add("end")

    def pause_writing(self):
        self.add("pause")

    def resume_writing(self):
        self.add("resume")

    def connection_lost(self, error):
        self.add("lost", type(error), str(error) if error else None)
        self.over.set_result(None)

    async def until(self, condition):
        """Wait for something that an event brings about."""
        async with asyncio.timeout(20):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def received(self):
        """All the data, in one piece."""
        return b"".join(event[1] for event in self.events if event[0] == "data")


class Filling(Told, asyncio.BufferedProtocol):
    """The same with a buffer of its own, smaller than a record."""

    data_received = None

    def __init__(self):
        super().__init__()
        self.buffer = bytearray(5000)

    def get_buffer(self, hint):
        return memoryview(self.buffer)

    def buffer_updated(self, count):
        Told.data_received(self, bytes(self.buffer[:count]))


class HandDriven:
    """A client whose records pass through the test's hands."""

    def __init__(self, context=None):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = context or client_context()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.socket = None

    async def connect(self, address):
        """Connect, and do the handshake."""
        self.socket = socket.socket()
        self.socket.setblocking(False)
        await asyncio.get_running_loop().sock_connect(self.socket, address)
        await self.repeated(self.tls.do_handshake)

    async def repeated(self, call, *arguments):
        """Make a call that wants records until it has them."""
        while True:
            try:
                result = call(*arguments)
            except ssl.SSLWantReadError:
                await self.send(self.outgoing.read())
                await self.receive()
            else:
                await self.send(self.outgoing.read())
                return result

    async def receive(self):
        data = await asyncio.get_running_loop().sock_recv(self.socket, 1 << 16)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    async def send(self, data):
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    def records(self, data):
        """The records that carry data."""
        while data:
            data = data[self.tls.write(data) :]
        return self.outgoing.read()

    async def read(self, count):
        """Read so many bytes."""
        data = b""
        while len(data) < count:
            data += await self.repeated(self.tls.read, count - len(data))
        return data


class Pair:
    """A server of ours with one connection, and the client at its other end."""

    def __init__(self, context=None, protocol=Told, client=None, **options):
        self.context = context or server_context()
        self.make, self.options = protocol, options
        self.client = HandDriven(client)
        self.reports = []

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, report: self.reports.append(report))
        made = loop.create_future()

        def make():
            protocol = self.make()
            made.set_result(protocol)
            return protocol

        self.server = await loop.create_server(
            make, "127.0.0.1", 0, ssl=self.context, **self.options
        )
        await self.client.connect(self.server.sockets[0].getsockname())
        self.protocol = await made
        await self.protocol.until(lambda: self.protocol.events)
        return self

    async def __aexit__(self, *error):
        self.client.socket.close()
        if not self.protocol.over.done():
            self.protocol.transport.abort()
        async with asyncio.timeout(20):
            await self.protocol.over
        self.server.close()
        await self.server.wait_closed()
