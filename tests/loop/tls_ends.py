"""What both ends of a TLS connection need: contexts with a certificate, and an echo.

`localhost.pem` is a certificate and its key that were made for these tests and protect nothing.
"""

import asyncio
import ssl
from pathlib import Path

CERTIFICATE = Path(__file__).with_name("localhost.pem")
LIBRARY_IS_SHARED = "libssl" in Path("/proc/self/maps").read_text()
"""The interpreter has OpenSSL as a library that our loop can find, and not built in."""


def server_context(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A server's context with our certificate, of one version of TLS or of any."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def client_context() -> ssl.SSLContext:
    """A client's context that trusts our certificate alone."""
    return ssl.create_default_context(cafile=CERTIFICATE)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes until the end."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()
