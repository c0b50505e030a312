"""Private database servers on the loopback, started for a test module and ended after it.

Each has a folder of its own that goes with it, a port that no other socket is given meanwhile, and
the certificate of the tests. A server runs in the foreground as our child and says when it is
ready, so nothing polls. PostgreSQL refuses to run as root; a test run as root gives it to another
user.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from gates import PATIENCE_SECONDS
from tls_ends import CERTIFICATE

DEBIAN_POSTGRESQL = Path("/usr/lib/postgresql")
PACKAGES = {"postgres": "postgresql", "redis-server": "redis-server"}
"""Program -> the package of Debian's that has it."""


def find_program(name: str) -> str | None:
    """The path of a server's program, or nothing; Debian keeps PostgreSQL's outside of PATH."""
    installed = sorted(DEBIAN_POSTGRESQL.glob(f"*/bin/{name}"))
    return str(installed[-1]) if installed else shutil.which(name)


def what_is_missing(server: str) -> str | None:
    """One line that says how to get a server that this machine lacks."""
    if find_program(server) is not None:
        return None
    return f"offloop's tests need {server} (Debian: apt-get install {PACKAGES[server]})"


def free_port() -> int:
    """A port that can be listened at, and that the kernel gives to no other socket for a minute.

    The end of a connection keeps it in the state TIME_WAIT, which only a server with SO_REUSEADDR
    may take it out of.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with socket.create_connection(address), listener.accept()[0]:
            return address[1]


class Server:
    """A server process in a folder of its own."""

    PROGRAM: str
    READY = "ready to accept connections"

    def __init__(self) -> None:
        missing = what_is_missing(self.PROGRAM)
        assert missing is None, missing
        self.folder = Path(tempfile.mkdtemp(prefix="offloop-tests-"))
        self.port = free_port()
        self.owner = self._owner()
        self.certificate = self.folder / "localhost.pem"
        shutil.copyfile(CERTIFICATE, self.certificate)
        self.certificate.chmod(0o600)
        if self.owner is not None:
            for path in (self.folder, self.certificate):
                os.chown(path, self.owner.pw_uid, self.owner.pw_gid)
        self.process: subprocess.Popen[str] | None = None

    @staticmethod
    def _owner() -> pwd.struct_passwd | None:
        """Another user than root, where we are root."""
        return pwd.getpwnam("nobody") if os.geteuid() == 0 else None

    def command(self) -> list[str]:
        """The command that runs the server in the foreground."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the server and wait until it says that it is ready."""
        self.process = self._spawn(self.command())
        said = []
        for line in self.process.stdout:
            said.append(line)
            if self.READY.lower() in line.lower():
                return
        raise AssertionError(f"{self.command()[0]} ended before it was ready:\n{''.join(said)}")

    def _spawn(self, command: list[str]) -> "subprocess.Popen[str]":
        other_user = {}
        if self.owner is not None:
            other_user = {
                "user": self.owner.pw_uid,
                "group": self.owner.pw_gid,
                "extra_groups": [],
            }
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(self.folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **other_user,
        )

    def kill(self) -> None:
        """End the server at once, in spite of its connections; wait until it has ended."""
        self.process.kill()
        self.process.communicate(timeout=PATIENCE_SECONDS)
        self.process = None

    def close(self) -> None:
        """End the server and remove its folder."""
        if self.process is not None:
            self.kill()
        shutil.rmtree(self.folder)


class Redis(Server):
    """Redis with a plain port, a TLS port and nothing on disk."""

    PROGRAM = "redis-server"

    def __init__(self) -> None:
        super().__init__()
        self.tls_port = free_port()

    def command(self) -> list[str]:
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "tls-port": str(self.tls_port),
            "tls-cert-file": str(self.certificate),
            "tls-key-file": str(self.certificate),
            "tls-ca-cert-file": str(self.certificate),
            "tls-auth-clients": "no",
            "save": "",
            "unixsocket": str(self.folder / "redis.sock"),
            "unixsocketperm": "777",
        }
        pairs = [word for name, value in options.items() for word in (f"--{name}", value)]
        return [find_program(self.PROGRAM), *pairs]


class PostgreSQL(Server):
    """PostgreSQL with one database, which trusts every client, and TLS for clients that ask."""

    PROGRAM = "postgres"
    SETTINGS = (
        "listen_addresses=127.0.0.1",
        "ssl=on",
        "ssl_cert_file=../localhost.pem",
        "ssl_key_file=../localhost.pem",
        "fsync=off",
        "max_connections=60",
    )

    def __init__(self) -> None:
        super().__init__()
        self.data = self.folder / "data"
        initdb = [find_program("initdb"), "-D", str(self.data), "-U", "tester", "--auth=trust"]
        process = self._spawn([*initdb, "--no-sync", "--encoding=UTF8", "--locale=C"])
        output = process.communicate(timeout=PATIENCE_SECONDS)[0]
        assert process.returncode == 0, output

    def command(self) -> list[str]:
        settings = [*self.SETTINGS, f"port={self.port}", f"unix_socket_directories={self.folder}"]
        pairs = [word for setting in settings for word in ("-c", setting)]
        return [find_program(self.PROGRAM), "-D", str(self.data), *pairs]

    def kill(self) -> None:
        """End the server and every process of a connection, without a word to the clients."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        self.process.kill()
        for pid in map(int, children.split()):
            # A process that was about to end has perhaps ended.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        super().kill()


def running(make: Callable[[], Server]):
    """Yield a started server of the given kind, and end it: the body of a fixture."""
    server = make()
    try:
        server.start()
        yield server
    finally:
        server.close()
