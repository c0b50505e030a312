"""The live page's server: what it answers, and what it refuses, byte by byte."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

import offloop
from viewers import PATIENCE_SECONDS, running

KEEPS_THE_GIL = """
import asyncio, ctypes, offloop

async def main():
    with offloop.page() as page:
        print(page.url, flush=True)
        await asyncio.to_thread(input)
        ctypes.PyDLL(None).read(0, ctypes.create_string_buffer(1), 1)
        print("free", flush=True)

asyncio.run(main())
"""


class Client:
    """Speaks HTTP to a page in any words."""

    def __init__(self, url):
        parts = urlsplit(url)
        self.place = parts.hostname, parts.port
        self.host, self.query = parts.netloc, parts.query

    def connect(self):
        """A connection."""
        return socket.create_connection(self.place, timeout=PATIENCE_SECONDS)

    def send(self, raw: bytes) -> bytes:
        """All that comes for a request."""
        with self.connect() as connection:
            connection.sendall(raw)
            return read(connection)

    def events(self) -> bytes:
        """A request for the events."""
        return f"GET /events?{self.query} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode()

    def ask(self, path="/", method="GET", query=None, **headers) -> tuple[int, dict, bytes]:
        """Status, headers and body of the answer to a request."""
        headers = {"Host": self.host, **headers}
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items() if value]
        target = f"{path}?{self.query if query is None else query}"
        raw = "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode()
        return parsed(self.send(raw))


def read(connection) -> bytes:
    """All bytes until the other side closes."""
    answer = b""
    try:
        while more := connection.recv(1 << 16):
            answer += more
    except ConnectionResetError:
        pass
    return answer


def parsed(answer: bytes) -> tuple[int, dict, bytes]:
    """Status, headers and body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body


@pytest.fixture
def page():
    """A page of this process."""
    with offloop.page() as page:
        yield page


@pytest.fixture
def client(page):
    """What asks it."""
    return Client(page.url)


def test_page_is_whole_small_and_strict(client):
    status, headers, body = client.ask()
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert 10_000 < len(body) < 150_000
    nonce = headers["content-security-policy"].split("'nonce-")[1].split("'")[0]
    assert f'<script nonce="{nonce}">'.encode() in body
    assert b"{{" not in body
    assert b"http://" not in body
    assert b"https://" not in body
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'nonce-")
    assert "unsafe" not in policy
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY".lower()
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert nonce not in client.ask()[1]["content-security-policy"]


def test_document_is_that_of_the_socket(client):
    status, headers, body = client.ask("/document")
    document = json.loads(body)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert (document["version"], document["process"]["pid"]) == (1, os.getpid())


def test_events_come_one_after_the_other(client):
    with client.connect() as connection:
        connection.sendall(
            f"GET /events?{client.query} HTTP/1.1\r\nHost: {client.host}\r\n\r\n".encode()
        )
        lines = connection.makefile("rb")
        documents = []
        for line in lines:
            if line.startswith(b"data: "):
                documents.append(json.loads(line[6:])["document"])
            if len(documents) == 3:
                break
        lines.close()
    times = [document["process"]["now"] for document in documents]
    assert times == sorted(set(times))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"query": ""}, b"the token"),
        ({"query": "token=0"}, b"the token"),
        ({"Host": "evil.example:80"}, b"localhost or an IP address, with any port, is accepted"),
        ({"Host": "evil.example"}, b"this Host is not"),
        ({"Host": ""}, b"needs one Host"),
        ({"Origin": "http://evil.example"}, b"the host and the port of the request's Host is"),
        ({"Origin": "null"}, b"this Origin is not"),
        ({"path": "/events", "Sec_Fetch_Site": "cross-site"}, b"another site asks"),
        ({"path": "/kill_call", "method": "POST"}, b"actions are not allowed"),
        ({"method": "OPTIONS", "query": ""}, b"the token"),
        ({"method": "OPTIONS", "Origin": "http://evil.example"}, b"this Origin is not"),
    ],
)
def test_whatever_is_not_the_page_is_refused(client, change, words):
    status, headers, body = client.ask(**change)
    assert (status, words in body) == (403, True)
    assert client.query.encode() not in body
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert client.ask()[0] == 200


@pytest.mark.parametrize(
    "host", ["localhost:9999", "127.0.0.1:9999", "[::1]:9999", "localhost", "127.0.0.1"]
)
def test_page_is_reached_through_another_port_of_the_loopback(client, host):
    assert client.ask(Host=host)[0] == 200
    for origin in (f"http://{host}", f"https://{host}"):
        assert client.ask("/document", Host=host, Origin=origin)[0] == 200


def test_other_methods_are_said_to_be_so(client):
    for path, allowed in (("/", "get, head"), ("/events", "get, head"), ("/kill_call", "post")):
        for method in ("OPTIONS", "PUT"):
            status, headers, _ = client.ask(path, method)
            assert (status, headers["allow"]) == (405, allowed)
    for path in ("/", "/document", "/events"):
        status, headers, body = client.ask(path, "HEAD")
        assert (status, body) == (200, b"")
        assert headers["x-content-type-options"] == "nosniff"


def first_event(client, query="", **headers):
    """The id and the data of the first event of a connection, and the answer's headers."""
    with client.connect() as connection:
        lines = [f"GET /events?{client.query}{query} HTTP/1.1", f"Host: {client.host}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        stream = connection.makefile("rb")
        head = b"".join(iter(stream.readline, b"\r\n")).lower()
        fields: dict[str, str] = {}
        while "data" not in fields:
            name, _, value = stream.readline().decode().strip().partition(": ")
            fields[name] = value
        stream.close()
    return fields["id"], json.loads(fields["data"]), head


def test_a_viewer_that_comes_back_goes_on_behind_its_last_event(client):
    with offloop.ProcessPool(1) as pool:
        pool.submit(abs, -1).result()
        place, told, head = first_event(client)
        assert b"x-accel-buffering: no" in head
        assert [call[1] for call in told["timeline"]["calls"]] == ["builtins.abs"]
        assert told["document"]["events"]["events"]
        for back in ({"query": f"&after={place}"}, {"Last_Event_ID": place}):
            _, told, _ = first_event(client, **back)
            assert told["timeline"]["calls"] == []
            assert told["document"]["events"]["events"] == []
        for unknown in ("nonsense", f"0-{10**12}"):
            _, told, _ = first_event(client, Last_Event_ID=unknown)
            assert len(told["timeline"]["calls"]) == 1


def test_paths_that_are_not_there_are_said_to_be_so(client):
    for path in ("/nothing", "/../../etc/passwd", "/%2e%2e/", "/document/"):
        assert client.ask(path)[0] == 404


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET  HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        os.urandom(4096),
    ],
    ids=range(11),
)
def test_malformed_requests_get_an_error_or_the_end(client, raw):
    with client.connect() as connection:
        try:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            # It was closed in the middle.
            pass
        answer = read(connection)
    assert not answer or parsed(answer)[0] in (400, 403, 414, 431, 505)
    assert client.ask()[0] == 200


def test_a_request_that_never_ends_is_given_up(client):
    with client.connect() as silent, client.connect() as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost:")
        assert read(slow)[:12] in (b"", b"HTTP/1.1 408")
        assert read(silent)[:12] in (b"", b"HTTP/1.1 408")


def test_connections_beyond_the_limit_are_closed_at_once(page, client):
    held = [client.connect() for _ in range(64)]
    beyond = [client.connect() for _ in range(400)]
    assert {read(connection) for connection in beyond[-100:]} == {b""}
    for connection in held + beyond:
        connection.close()
    while True:
        try:
            if client.ask()[0] == 200:
                break
        except (ConnectionError, IndexError):
            # The end of those before is not seen yet.
            pass


def test_viewer_that_reads_nothing_keeps_no_other_waiting(client):
    deaf = [client.connect() for _ in range(8)]
    for connection in deaf:
        connection.sendall(client.events())
    for _ in range(3):
        assert client.ask("/document")[0] == 200
    for connection in deaf:
        connection.close()


def test_page_answers_while_a_call_keeps_the_gil(tmp_path):
    with running(KEEPS_THE_GIL, tmp_path) as program:
        client = Client(program.heard())
        assert client.ask()[0] == 200
        program.tell()
        while not (document := json.loads(client.ask("/document")[2]))["loops"][0]["blocked"]:
            assert program.process.poll() is None
        assert client.ask()[0] == 200
        assert document["stalls"][-1]["culprit"]["function"] == "main"
        program.tell("x")
        assert program.heard() == "free"
        assert program.process.wait() == 0


def test_actions_are_done_where_they_are_allowed():
    with offloop.page(actions=True) as page:
        client = Client(page.url)
        own = {"Origin": f"http://{client.host}"}
        path, query = "/kill_call", f"{client.query}&pid=1"
        status, _, body = client.ask(path, "POST", query, **own)
        assert (status, json.loads(body)["error"]) == (
            200,
            "process 1 is no worker of this program",
        )
        assert client.ask(path, "POST", query)[0] == 403
        assert client.ask(path, "POST", **own)[0] == 400
        assert client.ask("/document", "POST", **own)[0] == 405
        assert client.ask(path, "GET", query)[0] == 405


def test_page_is_gone_when_it_is_stopped_and_has_another_token_then():
    with offloop.page() as page:
        first = page.url
        assert offloop.page() is page
        second = page.url
    assert page.url is None
    assert Client(first).query != Client(second).query
    with pytest.raises(ConnectionRefusedError):
        while True:
            # One that the page has not taken before its end is reset.
            with contextlib.suppress(ConnectionResetError):
                Client(second).connect().close()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"port": 65536}, ValueError, "port must be from 0 to 65535, not 65536"),
        ({"port": -1}, ValueError, "port must be from 0 to 65535, not -1"),
        ({"port": True}, TypeError, "port must be an integer, not True"),
        ({"port": "80"}, TypeError, "port must be an integer, not '80'"),
        ({"host": "example.org"}, ValueError, "host must be an IP address or localhost, not"),
        ({"host": "fe80::1%lo"}, ValueError, "host must be an IP address or localhost, not 'fe80"),
        ({"host": 1}, TypeError, "host must be a string, not 1"),
        ({"actions": 1}, TypeError, "actions must be True or False, not 1"),
    ],
)
def test_bad_arguments_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        offloop.page(**arguments)
    assert offloop.page.url is None


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]")])
def test_page_at_all_addresses_shows_one_that_a_browser_can_go_to(host, shown):
    with offloop.page(host=host) as page:
        assert page.url.startswith(f"http://{shown}:")
        assert Client(page.url).ask()[0] == 200


def test_port_that_is_taken_is_the_callers_error(client):
    with pytest.raises(OSError, match="in use"):
        offloop.page(client.place[1])


def test_offloop_run_prints_the_address_and_refuses_a_port_that_is_taken(tmp_path):
    script = tmp_path / "program.py"
    script.write_text("print('runs')\n")

    def run(option):
        command = [sys.executable, "-m", "offloop", "run", "--no-report", option, str(script)]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)

    done = run("--page")
    assert (done.returncode, done.stdout) == (0, "runs\n")
    assert done.stderr.startswith("offloop: live page at http://127.0.0.1:")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = run(f"--page={port}")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"offloop run: no page at port {port}: ")
    assert refused.stderr.count("\n") == 1
