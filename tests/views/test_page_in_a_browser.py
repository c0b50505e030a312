"""The live page in a headless Chromium: what a person sees, also while the program is frozen."""

import contextlib
import socket
import subprocess
import sys
import threading
from urllib.parse import urlsplit

import pytest
from browser import browser

import offloop
from viewers import running

PROGRAM = """
import asyncio, ctypes, time, offloop

def work(number):
    time.sleep(0.01)
    return number

async def worker_bee():
    await asyncio.Event().wait()

async def main():
    with offloop.page(actions=True) as page:
        bees = [asyncio.create_task(worker_bee(), name=f"bee {number}") for number in range(3)]
        await offloop.to_process(work, 1)
        time.sleep(0.12)
        print(page.url, flush=True)
        await asyncio.to_thread(input)
        ctypes.PyDLL(None).read(0, ctypes.create_string_buffer(1), 1)
        print("free", flush=True)
        for bee in bees:
            await asyncio.wait([bee])
        print("cancelled", flush=True)

asyncio.run(main())
"""


@pytest.fixture
def tab(tmp_path):
    """A tab of a browser."""
    with browser(tmp_path) as tab:
        yield tab


def text(identity):
    """What stands in an element."""
    return f"(document.getElementById('{identity}')?.innerText ?? '')"


def test_page_shows_the_program_before_while_and_after_it_is_frozen(tmp_path, tab):
    with running(PROGRAM, tmp_path) as program:
        tab.size(1280, 900)
        tab.open(program.heard())
        tab.wait(f"{text('state')} === 'live'")
        assert "time.sleep(0.12)" in tab.wait(text("culprits"))
        assert "await asyncio.sleep(0.12)" in tab.evaluate(text("culprits"))
        assert "bee 2" in tab.wait(f"{text('tasks')}.includes('bee') && {text('tasks')}")
        assert "work" in tab.wait(text("functions"))
        program.tell()
        tab.wait(f"{text('state')} === 'event loop blocked'")
        assert tab.evaluate("!document.getElementById('banner').hidden")
        assert tab.evaluate("document.title.startsWith('\\u25cf blocked')")
        # It goes on telling, without the GIL.
        first = tab.evaluate(text("banner"))
        tab.wait(f"{text('banner')} !== {first!r}")
        program.tell("x")
        assert program.heard() == "free"
        tab.wait(f"{text('state')} === 'live'")
        assert tab.errors == []


def test_keys_move_the_timeline_and_open_a_stall(tmp_path, tab):
    with running(PROGRAM, tmp_path) as program:
        tab.size(1280, 900)
        tab.open(program.heard())
        tab.wait(f"{text('stalls')}.includes('program.py')")
        tab.evaluate("document.getElementById('picture').focus()")
        assert tab.evaluate("view.end === null && view.span === 30")
        tab.press("+")
        assert tab.evaluate("view.span < 30")
        tab.press("ArrowLeft")
        assert tab.evaluate("view.end !== null")
        assert tab.wait("!document.getElementById('follow').hidden")
        tab.press("End")
        assert tab.evaluate("view.end === null")
        tab.press("Enter")
        assert "time.sleep(0.12)" in tab.wait(
            "document.querySelector('#stalls details[open]')?.innerText"
        )
        assert tab.errors == []


def test_task_is_cancelled_after_a_question(tmp_path, tab):
    with running(PROGRAM, tmp_path) as program:
        tab.open(program.heard())
        tab.wait(f"{text('tasks')}.includes('bee 0')")
        program.tell()
        tab.wait(f"{text('state')} === 'event loop blocked'")
        program.tell("x")
        assert program.heard() == "free"
        for number in range(3):
            tab.wait(f"{text('tasks')}.includes('bee {number}')")
            asked = "window.confirm = question => { window.asked = question; return true; };"
            press = (
                "[...document.querySelectorAll('#tasks li')].find(line => "
                f"line.innerText.includes('bee {number}')).querySelector('button').click()"
            )
            tab.evaluate(asked + press)
            assert tab.evaluate("window.asked") == f"Cancel bee {number}?"
        assert program.heard() == "cancelled"


def test_program_that_is_gone_is_said_to_be_so(tmp_path, tab):
    with running(PROGRAM, tmp_path) as program:
        tab.open(program.heard())
        tab.wait(f"{text('state')} === 'live'")
    tab.wait(f"{text('state')} === 'the program does not answer'")


class Forwarder:
    """Leads connections at a port of its own to a page, until they are cut."""

    def __init__(self, port):
        self.port = port
        self.is_down = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                browser, _ = self._server.accept()
            except OSError:
                return
            if self.is_down.is_set():
                browser.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                browser.close()
                continue
            page = socket.create_connection(("127.0.0.1", self.port))
            self._open += [browser, page]
            for pair in ((browser, page), (page, browser)):
                threading.Thread(target=self._copy, args=pair, daemon=True).start()

    def _copy(self, source, target):
        try:
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)
        except OSError:
            # It was cut.
            pass

    def cut(self):
        """End all connections."""
        held, self._open = self._open, []
        for each in held:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def close(self):
        """Lead no more."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()


@pytest.fixture
def forwarder():
    """A page of this process behind a forwarder, with one call that was made before."""
    with offloop.page() as page, offloop.ProcessPool(1) as pool:
        pool.submit(abs, -1).result()
        address = urlsplit(page.url)
        forwarder = Forwarder(address.port)
        forwarder.page = f"http://{forwarder.url}/?{address.query}"
        forwarder.pool = pool
        yield forwarder
        forwarder.close()


def test_connection_that_breaks_is_made_anew_and_nothing_comes_twice(tab, forwarder):
    tab.open(forwarder.page)
    tab.wait(f"{text('tasks')}.length > 0")
    tab.wait("tracks.calls.length === 1")
    events = tab.evaluate("events.length")
    for _ in range(2):
        tab.evaluate("window.before = source")
        forwarder.cut()
        tab.wait("source !== before && source.readyState === 1")
        tab.evaluate("window.told = heard + received")
        tab.wait("heard + received !== told")
    assert tab.evaluate("[tracks.calls.length, events.length]") == [1, events]
    forwarder.is_down.set()
    forwarder.cut()
    tab.wait("tries > 1")
    tab.wait(f"{text('state')} === 'the program does not answer'")
    assert tab.evaluate("document.querySelector('main').classList.contains('stale')")
    forwarder.is_down.clear()
    forwarder.pool.submit(abs, -2).result()
    tab.wait("tracks.calls.length === 2")
    tab.wait(f"{text('state')}.startsWith('live')")
    assert not tab.evaluate("document.querySelector('main').classList.contains('stale')")


def test_page_of_a_program_that_was_restarted_says_so(tab, forwarder):
    tab.open(forwarder.page)
    tab.wait(f"{text('tasks')}.length > 0")
    tab.wait("tracks.calls.length === 1")
    forwarder.port = urlsplit(offloop.page().url).port
    forwarder.cut()
    tab.wait(f"{text('state')} === 'the program was restarted: ask it for its new address'")


SUPERVISOR = """
import subprocess, offloop

child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
with offloop.page() as page:
    print(page.url, child.pid, flush=True)
    child.wait()
"""


def test_page_with_no_loop_names_the_children(tmp_path, tab):
    with running(SUPERVISOR, tmp_path) as program:
        url, child = program.heard().split()
        tab.open(url)
        said = tab.wait(text("supervisor"))
        assert "No event loop runs in this process" in said
        assert child in said


STALLS = """
import asyncio, time, offloop

async def main():
    with offloop.page() as page:
        print(page.url, flush=True)
        while True:
            await asyncio.sleep(0.4)
            time.sleep(0.15)

asyncio.run(main())
"""


def test_banner_never_says_more_than_a_stall_has_lasted(tmp_path, tab):
    with running(STALLS, tmp_path) as program:
        tab.open(program.heard())
        tab.wait(f"{text('tasks')}.length > 0")
        # What the banner said last of each stall, and how long that was at its end.
        tab.evaluate(
            "window.said = new Map(); new MutationObserver(() => { const loop = blockedLoop();"
            " if (loop && !at('banner').hidden) said.set(loop.blocked.stall,"
            " parseFloat(document.querySelector('#banner b').textContent)); })"
            ".observe(at('banner'), { childList: true })"
        )
        over = "[...said].filter(([number]) => stalls.get(number)?.is_over)"
        tab.wait(f"{over}.length >= 4")
        found = tab.evaluate(
            f"{over}.map(([number, ms]) => [ms, stalls.get(number).seconds * 1000])"
        )
        assert all(said <= lasted + 1 for said, lasted in found), found


def test_column_of_the_timeline_is_as_high_as_the_loop_was_busy(tmp_path, tab):
    with running(PROGRAM, tmp_path) as program:
        tab.size(400, 900)
        tab.open(program.heard())
        tab.wait(f"{text('state')} === 'live'")
        # A loop that is busy in 2 of each 20 ms, far more often than there are pixels.
        share = tab.evaluate(
            "(() => { tracks.slices = []; tracks.collections = []; stalls.clear();"
            " tracks.loads = []; const end = nowOf() + 1;"
            " for (let at = end - 40; at < end; at += .02) tracks.loads.push("
            "[shown.loops[0].number, at, at + .002, .002, 0],"
            "[shown.loops[0].number, at + .002, at + .02, 0, 0]); paint();"
            " const level = share => {"
            " const y = Math.round(LOOP_HEIGHT - share * (LOOP_HEIGHT - 6));"
            " const row = paper.getImageData(80, y, picture.width - 90, 1).data;"
            " const ground = paper.getImageData(80, 1, 1, 1).data; let blue = 0;"
            " for (let i = 0; i < row.length; i += 4)"
            " if (Math.abs(row[i] - ground[0]) > 30) blue++;"
            " return blue / (row.length / 4); }; return [level(.04), level(.3)]; })()"
        )
        assert share[0] > 0.9, share
        assert share[1] < 0.05, share


REPORTED = """
import asyncio, time

async def main():
    for _ in range(40):
        time.sleep(0.003)
        await asyncio.sleep(0.02)

asyncio.run(main())
"""


def test_report_draws_a_loop_as_high_as_it_was_busy_and_fits_a_phone(tmp_path, tab):
    (tmp_path / "app.py").write_text(REPORTED)
    command = [sys.executable, "-m", "offloop", "run", "--report", "r.html", "app.py"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    tab.size(400, 900)
    tab.open((tmp_path / "r.html").as_uri())
    tab.wait("document.querySelectorAll('rect.busy').length")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400
    # Ten stretches on each point, of which one is busy; all of them, and one of two.
    points = (
        "(isThinned => { const values = []; for (let at = 0; at < 1000; at += 1)"
        " values.push({ begin: at, end: at + 1, value: at % 10 ? 0 : 1, longest: at });"
        " const kept = isThinned ? values.filter((_, index) => index % 20 < 10) : values;"
        " return pointsOf(kept, (ns) => ns / 20, 50, isThinned).map((point) => point.share); })"
    )
    for is_thinned in ("false", "true"):
        shares = tab.evaluate(f"{points}({is_thinned})")
        assert shares == pytest.approx([0.1] * 50)
    assert tab.errors == []


def test_lane_of_a_worker_is_as_full_as_its_calls_are_long(tab):
    with offloop.page() as page:
        tab.size(1280, 900)
        tab.open(page.url)
        tab.wait(f"{text('state')}.startsWith('live')")
        # Calls of 1 ms, each 10 ms: three on each column of pixels.
        blue = tab.evaluate(
            "(() => { const end = nowOf() + 1; for (let at = end - 40; at < end; at += .01)"
            " tracks.calls.push([7000, 'module:f', at, at, at + .001, 'returned']); paint();"
            " let top = 0; for (const lane of lanesOf(end - 30)) {"
            " if (lane.pid === 7000) break; top += lane.height + GAP; }"
            " return [top + 4, top + 10].map(y => {"
            " const row = paper.getImageData(200, y, 800, 1).data;"
            " const ground = paper.getImageData(200, top + 1, 1, 1).data; let full = 0;"
            " for (let i = 0; i < row.length; i += 4)"
            " if (Math.abs(row[i] - ground[0]) > 30) full++; return full / 800; }); })()"
        )
        assert blue[0] < 0.05, blue
        assert blue[1] > 0.9, blue


def test_names_of_a_program_are_text_and_never_markup(tmp_path, tab):
    source = PROGRAM.replace("bee {number}", "<img src=x onerror=alert(1)> {number}")
    with running(source, tmp_path) as program:
        tab.open(program.heard())
        tab.wait(f"{text('tasks')}.includes('<img src=x')")
        assert tab.evaluate("document.querySelectorAll('#tasks img').length") == 0


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_page_fits_into_a_window(tmp_path, tab, width, dark):
    with offloop.page() as page:
        tab.size(width, 900, dark=dark)
        tab.open(page.url)
        tab.wait(f"{text('state')}.startsWith('live')")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("getComputedStyle(document.querySelector('header')).position") == (
            "sticky"
        )
        ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground[4:-1].split(","))) < 200) == dark


def test_ten_thousand_calls_and_as_many_callbacks_are_drawn(tab):
    with offloop.page() as page:
        tab.size(1280, 900)
        tab.open(page.url)
        tab.wait(f"{text('state')}.startsWith('live')")
        # Of each kind as many; the page keeps them and draws what is in view.
        tab.evaluate(
            "for (let i = 0; i < 10000; i++) { const b = nowOf() - 29 + i * .0029;"
            " tracks.calls.push([7000 + i % 4, 'module:f' + i % 9, b, b, b + .002, 'returned']);"
            " tracks.slices.push([1, b, b + .0015, 'handler', false]); } paint()"
        )
        assert tab.evaluate("hits.length > 1000")
        # What was drawn last is found by the pointer.
        assert tab.evaluate("typeof hits[hits.length - 1][4]()") == "string"
