"""What a shop depends on, and what is slow: a server of exchange rates, and a disk.

The disk is played by a process that has a lease on the catalogue's file. The kernel lets a program
that opens it wait until the lease is given up: see fcntl(2), F_SETLEASE.
"""

from __future__ import annotations

import http.server
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 0.2

SLOW_DISK = f"""
import fcntl, os, signal, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
descriptor = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("mounted", flush=True)
signal.sigwait([signal.SIGIO])
time.sleep({SECONDS})
fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
"""

addresses: dict[str, str] = {}
"""Where the neighbours are, while they are at work."""


class Rates(http.server.BaseHTTPRequestHandler):
    """Answers each question with a rate, after a while."""

    def do_GET(self) -> None:
        """Take a while."""
        time.sleep(SECONDS)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"0.92")

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@contextmanager
def at_work() -> Iterator[None]:
    """Start the neighbours, and stop them in the end."""
    with rates_served(), disk_mounted():
        yield


@contextmanager
def rates_served() -> Iterator[None]:
    """Serve exchange rates from a thread."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Rates) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        addresses["rates"] = f"http://127.0.0.1:{server.server_port}/usd"
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def disk_mounted() -> Iterator[None]:
    """Keep the catalogue on the slow disk."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "catalogue.txt"
        path.write_text("tea\ncoffee\nteapot\n")
        disk = subprocess.Popen(
            [sys.executable, "-c", SLOW_DISK, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert disk.stdout is not None
        try:
            if disk.stdout.readline() != "mounted\n":
                raise OSError(f"the file system has no leases: {path}")
            addresses["catalogue"] = str(path)
            yield
        finally:
            disk.kill()
            disk.wait()
            disk.stdout.close()
