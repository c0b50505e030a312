"""Each example runs as its reader would run it, and does what its first lines promise."""

import http.client
import io
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from gates import eventually

ROOT = Path(__file__).resolve().parent.parent
TEXTS = (
    ROOT / "README.md",
    ROOT / "docs" / "guide.md",
    *sorted((ROOT / "docs" / "integrations").glob("*.md")),
)
EXAMPLES = ROOT / "examples"
SECONDS_MAX = 50


def run_example(name: str, *arguments: str) -> str:
    """Run an example to its end and return what it printed."""
    ended = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@contextmanager
def service(name: str) -> Iterator[int]:
    """Run an example that serves, on a port of its choice, until the test is done."""
    process = subprocess.Popen(
        [sys.executable, "-u", str(EXAMPLES / name), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            found = re.search(r"unning on http://127\.0\.0\.1:(\d+)", line)
            if found:
                yield int(found[1])
                break
        else:
            pytest.fail(f"{name} ended before it served")
    finally:
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        process.stdout.close()
        process.wait(SECONDS_MAX)


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Send one request and return status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS_MAX)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def picture(width: int, height: int) -> bytes:
    """A picture, encoded as PNG."""
    encoded = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).save(encoded, "PNG")
    return encoded.getvalue()


def test_fastapi_service_makes_thumbnails_and_refuses_what_is_not_a_picture():
    with service("fastapi_service.py") as port:
        status, body = ask(port, "POST", "/thumbnail?edge=64", picture(640, 480))
        assert status == 200
        with Image.open(io.BytesIO(body)) as small:
            assert small.format == "JPEG"
            assert small.size == (64, 48)
        assert ask(port, "POST", "/thumbnail", b"no picture")[0] == 415
        assert ask(port, "POST", "/thumbnail?edge=0", b"")[0] == 422
        assert ask(port, "GET", "/health") == (200, b'{"running":0,"queued":0}')


def test_aiohttp_service_answers_and_stops_when_the_client_hangs_up():
    with service("aiohttp_service.py") as port:
        status, body = ask(port, "GET", "/primes?below=100")
        assert (status, json.loads(body)) == (200, {"below": 100, "primes": 25})
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/primes?below=10") as response:
            assert re.match(r"processes;dur=[\d.]+;", response.headers["Server-Timing"])

        def health() -> dict[str, int]:
            return json.loads(ask(port, "GET", "/health")[1])

        query = urllib.parse.urlencode({"below": 10**12})
        with socket.create_connection(("127.0.0.1", port)) as impatient:
            impatient.sendall(f"GET /primes?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            eventually(lambda: health() == {"active": 1, "stopped": 0})
        eventually(lambda: health() == {"active": 0, "stopped": 1})
        assert ask(port, "GET", "/primes?below=10")[0] == 200


def test_live_page_is_served_while_the_rounds_go_on():
    first, last = run_example("live_page.py", "--rounds", "1").splitlines()
    assert re.fullmatch(r"open http://127\.0\.0\.1:\d+/\?token=[0-9a-f]{32}", first)
    assert re.fullmatch(r"[1-9]\d* stalls were shown", last)


def test_loop_statistics_show_the_block():
    def metrics() -> dict[str, float]:
        lines = ask(port, "GET", "/metrics")[1].decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    with service("loop_statistics.py") as port:
        before = metrics()
        assert ask(port, "GET", "/block?ms=120")[0] == 200
        after = metrics()
    assert after["loop_lag_seconds_sum"] - before["loop_lag_seconds_sum"] >= 0.12
    below = after['loop_lag_seconds_bucket{le="0.1"}']
    assert below < after['loop_lag_seconds_bucket{le="+Inf"}'] == after["loop_lag_seconds_count"]
    assert after["loop_callbacks_total"] > before["loop_callbacks_total"]
    assert after["loop_bytes_sent_total"] > before["loop_bytes_sent_total"]
    assert 0 < after["loop_utilisation"] <= 1


def test_metrics_service_tells_prometheus_of_its_calls():
    with service("metrics_service.py") as port:
        assert len(ask(port, "GET", "/signed")[1]) == 64
        lines = ask(port, "GET", "/metrics")[1].decode().splitlines()
    assert 'offloop_calls_ended_total{outcome="completed"} 1' in lines
    assert "offloop_loops 1" in lines


@pytest.mark.parametrize("name", ["fastapi_timing.py", "django_service.py"])
def test_timing_of_a_request_is_in_its_answer(name):
    def timing(path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS_MAX)
        connection.request("GET", path)
        with connection.getresponse() as response:
            assert (response.status, len(json.load(response)["signature"])) == (200, 64)
            found = response.getheader("server-timing")
        connection.close()
        return found

    end = "/" if name.startswith("django") else ""
    with service(name) as port:
        blocked = re.fullmatch(r"loop;dur=([\d.]+);desc=.+", timing(f"/reports/blocking{end}"))
        free = timing(f"/reports/free{end}")
    assert float(blocked[1]) > 0
    assert re.search(r', processes;dur=[\d.]+;desc="1 call"$', free)


def test_stalls_go_to_the_log_and_to_sentry():
    output = run_example("stalls_to_logs.py")
    assert "event=event_loop_was_blocked customer=ada function=" in output
    assert "to Sentry: EventLoopBlocked, ada, return hashlib.pbkdf2_hmac(" in output


def test_spans_of_a_request_are_a_tree():
    lines = run_example("traced_service.py").splitlines()
    found = [re.fullmatch(r"( *)(.+?) +\d+ ms in (.+)", line).groups() for line in lines]
    tree = [(len(indent) // 2, name, where) for indent, name, where in found]
    # On a busy machine the loop may stall elsewhere, too.
    assert [line for line in tree if line[1] != "event loop blocked" or line[0] == 2] == [
        (0, "GET /report", "this process"),
        (1, "call __main__.sign", "this process"),
        (2, "run __main__.sign", "a worker"),
        (3, "hash", "a worker"),
        (1, "check", "this process"),
        (2, "event loop blocked", "this process"),
    ]


def test_every_page_with_hidden_blocking_stops_the_loop():
    lines = run_example("hidden_blocking.py").splitlines()
    said = [
        re.fullmatch(r"(/\w+) +stopped the loop for ([\d.]+) s: it (\w+)\b.+", line)
        for line in lines
    ]
    stops = {one[1]: (float(one[2]), one[3]) for one in said if one}
    assert len(stops) == len(lines) == 11
    for page, (seconds, verb) in stops.items():
        # What waits does so for 0.2 s, or as long as a thread keeps the GIL.
        is_timed = verb in ("waits", "sleeps") and page != "/invoice"
        assert seconds >= (0.19 if is_timed else 0.02), page


def test_blocking_waits_end_before_the_computation_beside_them():
    lines = run_example("blocking_beside_cpu.py", "--scale", "0.1").splitlines()
    ends = [re.fullmatch(r"(.+) ended after ([\d.]+) s", line) for line in lines[:3]]
    assert [end[1] for end in ends if end][2] == "computation"
    seconds = [float(end[2]) for end in ends if end]
    # All three started together: one after the other they would take 2.2 s.
    assert seconds[2] < 2.0
    assert lines[3].startswith("the loop's longest pause was")


def test_failing_task_of_a_group_stops_the_others():
    lines = run_example("taskgroup_cancel.py").splitlines()
    assert lines[0] == "failed: this experiment cannot work"
    assert lines[-1] == "the other tasks stopped"


def test_notebook_like_script_runs_without_a_main_guard():
    lines = run_example("notebook_like.py").splitlines()
    assert lines == [
        "squares: [0, 1, 4, 9, 16, 25, 36, 49]",
        "scaled: [0, 3, 6, 9]",
        "spreads: [0.0, 1.0, 2.0]",
        "above 10: 89 above 50: 49",
        "sorted: True (2000000,)",
    ]


def listings() -> list[str]:
    """The listings, each a whole module; those with a loop run to their end."""
    found = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return [source for text in TEXTS for source in found.findall(text.read_text())]


@pytest.mark.parametrize("source", listings(), ids=lambda source: str(source.count("\n")))
def test_listing_of_readme_and_guide_runs(source, tmp_path):
    (tmp_path / "listing.py").write_text(source)
    name = "__main__" if re.search(r"\b(asyncio|offloop)\.run\(", source) else "listing"
    program = f"import runpy; runpy.run_path('listing.py', run_name={name!r})"
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )
    assert ended.returncode == 0, ended.stderr
    assert bool(ended.stdout) == ("print(" in source)
