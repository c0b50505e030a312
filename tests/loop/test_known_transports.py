"""What a loop and its servers know of transports, and a transport of its connection.

Ours are kept in other ways than the standard loop's, and look the same.
"""

import asyncio
import gc
import socket
import sys
import weakref

import pytest

from steps import rounds

COUNT = 20
KNOW_CLIENTS = sys.version_info >= (3, 13)
"""Servers know which clients they have, and not only how many."""


async def open_pair(**options):
    """A connection over a pair of sockets: transport, and the other end."""
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours, **options)
    return transport, theirs


def clients_of(server):
    """How many connections a server has."""
    return len(server._clients) if KNOW_CLIENTS else server._active_count


class Kept(asyncio.Protocol):
    """Keeps its transport, and those of all other protocols."""

    made: list

    def connection_made(self, transport):
        self.transport = transport
        self.made.append(transport)


def kept():
    """A protocol that keeps transports in a list of its own."""
    return type("OwnList", (Kept,), {"made": []})


FAMILIES = {
    "IPv4": (socket.AF_INET, ("127.0.0.1", 0)),
    "IPv6": (socket.AF_INET6, ("::1", 0)),
    "IPv4 in IPv6": (socket.AF_INET6, ("::ffff:127.0.0.1", 0)),
    "Unix": (socket.AF_UNIX, "\0offloop-test"),
}


def test_a_patched_get_extra_info_of_the_base_class_is_asked(run, monkeypatch):
    async def main():
        transport, theirs = await open_pair()
        sock = transport.get_extra_info("socket")
        asked = []

        def patched(self, *given):
            asked.append((self is transport, *given))
            return whole(self, *given)

        whole = asyncio.BaseTransport.get_extra_info
        with monkeypatch.context() as patching:
            patching.setattr(asyncio.BaseTransport, "get_extra_info", patched)
            assert transport.get_extra_info("socket") is sock
            assert transport.get_extra_info("nothing", 7) == 7
        assert transport.get_extra_info("nothing", 8) == 8
        assert asked == [(True, "socket"), (True, "nothing", 7)]
        transport.abort()
        theirs.close()

    run(main())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("moment", ["open", "closing", "closed"])
def test_names_of_both_ends_are_those_of_the_sockets(run, family, moment):
    async def main():
        loop = asyncio.get_running_loop()
        listening = socket.socket(FAMILIES[family][0], socket.SOCK_STREAM)
        listening.bind(FAMILIES[family][1])
        factory = kept()
        server = await loop.create_server(factory, sock=listening)
        client = socket.socket(FAMILIES[family][0], socket.SOCK_STREAM)
        client.connect(listening.getsockname())
        names = {"peername": client.getsockname(), "sockname": client.getpeername()}
        while not factory.made:
            await asyncio.sleep(0)
        (transport,) = factory.made
        if moment != "open":
            client.close()
            while not transport.is_closing():
                await asyncio.sleep(0)
        if moment == "closed":
            await rounds()
            assert transport._sock is None
        for _ in range(2):
            assert {name: transport.get_extra_info(name) for name in names} == names
            assert [type(transport.get_extra_info(name)) for name in names] == [
                type(name) for name in names.values()
            ]
        sock = transport.get_extra_info("socket")
        assert isinstance(sock, asyncio.trsock.TransportSocket)
        assert transport.get_extra_info("socket") is sock
        assert (sock.fileno() == -1) == (transport._sock is None)
        assert transport.get_extra_info("nothing") is None
        assert transport.get_extra_info("nothing", 7) == 7
        # The dictionary of the standard transport.
        assert transport._extra == {**names, "socket": sock}
        transport._extra["more"] = 8
        assert transport.get_extra_info("more") == 8
        assert transport.get_extra_info("peername", 7) == names["peername"]
        transport.abort()
        client.close()
        server.close()

    run(main())


@pytest.mark.parametrize(
    "name",
    [
        ("127.1", 80),
        ("127.0.0.1", 80, 0, 0),
        ("127.0.0.1", 80.0),
        ("127.0.0.1", 70_000),
        ("127.0.0.1", -1),
        ("::1", 80),
        ("::1", 80, 0, 1 << 32),
        ("0:0::1", 80, 0, 0),
        ("fe80::1%lo", 80, 0, 1),
        ("fe80::1", 80, 5, 9),
        ("::ffff:1.2.3.4", 65535, 0, 0),
        (),
        ("127.0.0.1",),
        (b"127.0.0.1", 80),
        ["127.0.0.1", 80],
        "\udc80",
        None,
    ],
    ids=str,
)
def test_name_of_any_kind_is_given_back_as_it_was(run, name):
    class Socket(socket.socket):
        def getpeername(self):
            return name

    async def main():
        ours, theirs = socket.socketpair()
        special = Socket(fileno=ours.detach())
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=special)
        got = transport.get_extra_info("peername", "default")
        transport.abort()
        await rounds()
        theirs.close()
        return got, transport.get_extra_info("peername", "default")

    for got in run(main()):
        assert got == name
        assert type(got) is type(name)
        if name:
            assert [type(part) for part in got] == [type(part) for part in name]


def test_extra_information_of_the_program_is_kept(our_loop):
    async def main():
        ours, theirs = socket.socketpair()
        transport = our_loop._make_socket_transport(ours, asyncio.Protocol(), extra={"own": 1})
        assert transport.get_extra_info("own") == 1
        assert transport.get_extra_info("socket").fileno() == ours.fileno()
        assert transport._extra.keys() == {"own", "peername", "sockname", "socket"}
        await rounds()
        transport.abort()
        await rounds()
        theirs.close()

    our_loop.run_until_complete(main())


def test_loop_knows_its_transports_by_descriptor_and_keeps_none(run):
    async def main():
        known = asyncio.get_running_loop()._transports
        transport, theirs = await open_pair()
        fd = transport._sock_fd
        assert known[fd] is known.get(fd) is transport
        assert fd in known
        assert fd in list(known)
        datagrams, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        assert known[datagrams._sock_fd] is datagrams
        assert {fd, datagrams._sock_fd} <= set(known)
        del known[fd]
        assert known.get(fd) is None
        known[fd] = transport
        assert known[fd] is transport
        transport.abort()
        datagrams.abort()
        await rounds()
        gone = weakref.ref(transport)
        del transport, datagrams
        gc.collect()
        assert gone() is None
        assert known.get(fd, 7) == 7
        assert len(known) == 0
        for number in (fd, -1, 1 << 40, None):
            with pytest.raises(KeyError):
                known[number]
        theirs.close()

    run(main())


def test_descriptor_that_is_used_again_belongs_to_its_new_transport(our_loop):
    async def main():
        first, theirs = await open_pair()
        fd, sock = first._sock_fd, first._sock
        # It waits for room to send the rest, and its socket is closed behind its back.
        first.write(bytes(10_000_000))
        first.close()
        sock.close()
        second, others = await open_pair()
        assert second._sock_fd == fd
        assert our_loop._transports[fd] is second
        assert set(our_loop._streams()) == {first, second}
        first.abort()
        await rounds()
        assert our_loop._streams() == [second]
        del first
        gc.collect()
        assert our_loop._transports[fd] is second
        with pytest.raises(RuntimeError, match="is used by transport"):
            our_loop.add_reader(fd, print)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await our_loop.sock_recv(second._sock, 1)
        second.abort()
        await rounds()
        assert our_loop._streams() == []
        theirs.close()
        others.close()

    our_loop.run_until_complete(main())


def test_transport_of_an_impossible_descriptor_costs_no_memory(our_loop):
    class Impossible(socket.socket):
        def fileno(self):
            return 2**31 - 1

    sock = Impossible()
    transport = our_loop._make_socket_transport(sock, asyncio.Protocol())
    assert our_loop._transports[2**31 - 1] is transport
    # The native half does without sockets whose methods are their own.
    assert our_loop._streams() == []
    our_loop.run_until_complete(rounds())
    transport.abort()
    our_loop.run_until_complete(rounds())


@pytest.mark.parametrize("end", ["close_clients", "abort_clients"])
def test_server_ends_its_own_clients_and_waits_for_them(run, end):
    async def main():
        loop = asyncio.get_running_loop()
        factories = [kept(), kept()]
        servers = [await loop.create_server(each, "127.0.0.1", 0) for each in factories]
        addresses = [server.sockets[0].getsockname() for server in servers] * COUNT
        clients = [socket.create_connection(address) for address in addresses]
        for factory in factories:
            while len(factory.made) < COUNT:
                await asyncio.sleep(0)
        assert [clients_of(server) for server in servers] == [COUNT] * 2
        if KNOW_CLIENTS:
            assert set(servers[0]._clients) == set(factories[0].made)
            assert set(servers[0]._clients.copy()) == set(factories[0].made)
        # The program ends one transport itself, and detaches one twice.
        factories[0].made[0].abort()
        factories[1].made[0].abort()
        await rounds()
        if KNOW_CLIENTS:
            servers[0]._detach(factories[0].made[0])
        assert [clients_of(server) for server in servers] == [COUNT - 1] * 2
        servers[0].close()
        waiting = asyncio.create_task(servers[0].wait_closed())
        await rounds()
        # Before Python 3.12 a closed server does not wait for its connections.
        assert waiting.done() == (sys.version_info < (3, 12))
        if KNOW_CLIENTS:
            getattr(servers[0], end)()
        else:
            for transport in factories[0].made:
                transport.close()
        await asyncio.wait_for(waiting, 30)
        assert [transport.is_closing() for transport in factories[0].made] == [True] * COUNT
        assert [transport.is_closing() for transport in factories[1].made[1:]] == [False] * 19
        assert [clients_of(server) for server in servers] == [0, COUNT - 1]
        for transport in factories[1].made:
            transport.abort()
        servers[1].close()
        await asyncio.wait_for(servers[1].wait_closed(), 30)
        for client in clients:
            client.close()

    run(main())


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_client_that_is_not_kept_any_more_is_none_of_the_servers(run):
    async def main():
        loop = asyncio.get_running_loop()

        class Paused(asyncio.Protocol):
            def connection_made(self, transport):
                # The loop does not keep it either.
                transport.pause_reading()

        server = await loop.create_server(Paused, "127.0.0.1", 0)
        client = socket.create_connection(server.sockets[0].getsockname())
        while not clients_of(server):
            await asyncio.sleep(0)
        await rounds()
        gc.collect()
        if KNOW_CLIENTS:
            assert clients_of(server) == 0
        else:
            # Those count it for ever.
            assert clients_of(server) == 1
            server._detach()
        server.close()
        await asyncio.wait_for(server.wait_closed(), 30)
        client.close()

    run(main())


def test_streams_that_end_in_any_order_leave_the_loop_with_the_others(our_loop):
    async def main():
        pairs = [await open_pair() for _ in range(COUNT)]
        for number in [*range(0, COUNT, 3), *range(1, COUNT, 3), *range(2, COUNT, 3)]:
            transport, theirs = pairs[number]
            pairs[number] = None
            transport.abort()
            theirs.close()
            await rounds()
            del transport
            left = {pair[0] for pair in pairs if pair}
            assert set(our_loop._streams()) == left
            assert {our_loop._transports[fd] for fd in our_loop._transports} == left

    our_loop.run_until_complete(main())
