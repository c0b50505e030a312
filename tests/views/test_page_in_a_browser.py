"""The live page in a headless Chromium: what a person sees, also while the program is frozen."""

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
    return f"document.getElementById('{identity}').innerText"


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
            "document.querySelector('#stalls details[open]').innerText"
        )
        assert tab.errors == []


def test_task_is_cancelled_after_a_question(tmp_path, tab):
    with running(PROGRAM, tmp_path) as program:
        tab.open(program.heard())
        tab.wait(f"{text('tasks')}.includes('bee 0')")
        program.tell()
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
