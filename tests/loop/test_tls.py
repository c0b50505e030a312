"""TLS on the loop, with `ssl.SSLContext` unchanged: exchange, upgrade, refusal, half-open ends."""

import asyncio
import socket
import ssl

import pytest

from tls_ends import client_context, echo, server_context

LARGE = bytes(range(256)) * 8192


@pytest.fixture(scope="module")
def server_side():
    return server_context()


@pytest.fixture(scope="module")
def client_side():
    return client_context()


@pytest.mark.parametrize("at_once", [1, 20])
def test_large_data_goes_both_ways(run, server_side, client_side, at_once):
    async def ask(address):
        reader, writer = await asyncio.open_connection(
            *address, ssl=client_side, server_hostname="localhost"
        )
        writer.write(LARGE)
        data = await reader.readexactly(len(LARGE))
        assert writer.get_extra_info("cipher")
        assert writer.get_extra_info("peercert")["subject"]
        writer.close()
        await writer.wait_closed()
        return data == LARGE

    async def main():
        async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_side) as server:
            address = server.sockets[0].getsockname()
            return await asyncio.gather(*(ask(address) for _ in range(at_once)))

    assert run(main()) == [True] * at_once


def test_plain_connection_is_upgraded_in_mid_stream(run, server_side, client_side):
    async def serve(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go ahead\n")
        await writer.drain()
        await writer.start_tls(server_side)
        await echo(reader, writer)

    async def main():
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"go ahead\n"
            await writer.start_tls(client_side, server_hostname="localhost")
            writer.write(b"secret\n")
            line = await reader.readline()
            version = writer.get_extra_info("ssl_object").version()
            writer.close()
            await writer.wait_closed()
            return line, version.startswith("TLS")

    assert run(main()) == (b"secret\n", True)


def test_untrusted_certificate_is_refused_and_the_server_goes_on(run, server_side, client_side):
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *report: None)
        async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_side) as server:
            address = server.sockets[0].getsockname()
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection(*address, ssl=ssl.create_default_context())
            with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
                await asyncio.open_connection(
                    *address, ssl=client_side, server_hostname="elsewhere"
                )
            reader, writer = await asyncio.open_connection(
                *address, ssl=client_side, server_hostname="localhost"
            )
            writer.write(b"after all")
            data = await reader.readexactly(9)
            writer.close()
            await writer.wait_closed()
            return data

    assert run(main()) == b"after all"


def test_client_that_speaks_no_tls_or_leaves_half_way_does_not_stop_the_server(
    run, server_side, client_side
):
    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *report: None)
        async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_side) as server:
            address = server.sockets[0].getsockname()
            for greeting in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", b""):
                with socket.create_connection(address) as plain:
                    plain.sendall(greeting)
            reader, writer = await asyncio.open_connection(
                *address, ssl=client_side, server_hostname="localhost"
            )
            writer.write(b"still there")
            data = await reader.readexactly(11)
            writer.close()
            await writer.wait_closed()
            return data

    assert run(main()) == b"still there"


def test_handshake_with_a_silent_peer_ends_at_its_timeout(run, client_side):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as silent:
            with pytest.raises(ConnectionAbortedError, match="SSL handshake is taking longer"):
                await loop.create_connection(
                    asyncio.Protocol,
                    *silent.getsockname(),
                    ssl=client_side,
                    server_hostname="localhost",
                    ssl_handshake_timeout=0.05,
                )

    run(main())
