"""The files of `offloop run --trace --journal --report` are right, also of a killed program."""

import json
import signal
import subprocess
import sys
import textwrap
import zlib
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from gates import eventually

PROGRAM = """
import asyncio, os, time
from concurrent.futures import ProcessPoolExecutor

def square(number):
    time.sleep(0.002)
    return number * number

def stop(number):
    os._exit(3)

async def serve():
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(1) as pool:
        print([await loop.run_in_executor(pool, square, each) for each in range(5)])
        try:
            await loop.run_in_executor(pool, stop, 1)
        except Exception as error:
            print(type(error).__name__)
    await asyncio.to_thread(time.sleep, 0.01)
    time.sleep(0.2)  # blocks
    await asyncio.sleep(0.02)

asyncio.run(serve())
"""
SECONDS_MAX = 50


def start(folder: Path, source: str, *options: str, **more) -> subprocess.Popen[str]:
    """Run a program in a folder of its own, with options of `offloop run`."""
    (folder / "app.py").write_text(textwrap.dedent(source))
    command = [sys.executable, "-m", "offloop", "run", "--no-report", *options, "app.py"]
    return subprocess.Popen(command, cwd=folder, text=True, stderr=subprocess.PIPE, **more)


def run(folder: Path, source: str, *options: str) -> tuple[int, str]:
    """Run it to its end: its status, and what it said."""
    process = start(folder, source, *options, stdout=subprocess.DEVNULL)
    _, errors = process.communicate(timeout=SECONDS_MAX)
    return process.returncode, errors


def lines_of(path: Path) -> list[dict]:
    """The lines of a journal, each compared with its checksum."""
    lines = []
    for line in path.read_bytes().splitlines():
        checksum, _, text = line.partition(b" ")
        assert zlib.crc32(text) == int(checksum, 16)
        lines.append(json.loads(text))
    return lines


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A folder with all files of one run."""
    folder = tmp_path_factory.mktemp("recorded")
    options = ("--trace", "t.json", "--trace", "t.speedscope.json", "--journal", "j")
    status, errors = run(folder, PROGRAM, *options, "--report", "r.html")
    assert status == 0, errors
    return folder


def test_a_trace_has_tracks_slices_and_arrows(recorded):
    events = json.loads((recorded / "t.json").read_text())
    names = {event["args"]["name"] for event in events if event["ph"] == "M"}
    assert {"garbage collections", "stalls of MainThread"} <= names
    assert any(name.startswith("loop 1 (offloop)") for name in names)
    assert any(name.startswith("worker ") for name in names)
    assert "calls" in names
    squares = [each for each in events if each["ph"] == "X" and each["name"] == "square"]
    assert len(squares) == 5
    assert min(each["dur"] for each in squares) >= 2000
    assert {each["args"]["outcome"] for each in squares} == {"returned"}
    ends = [each["ts"] + each["dur"] for each in squares]
    assert all(end <= later["ts"] for end, later in zip(ends, squares[1:], strict=False))
    arrows = Counter(event["ph"] for event in events if event["ph"] in "sf")
    assert arrows["s"] == arrows["f"] == 12, "two for each of six calls"
    stalls = [each for each in events if each["ph"] == "X" and "cause" in each.get("args", ())]
    assert [each["name"] for each in stalls] == ["serve"]
    assert stalls[0]["dur"] >= 200_000
    assert "app.py" in stalls[0]["args"]["stack"][0]
    assert any(each["ph"] == "C" and each["name"] == "loop 1 busy" for each in events)


def test_speedscope_gets_the_stack_of_each_stall(recorded):
    file = json.loads((recorded / "t.speedscope.json").read_text())
    profile, frames = file["profiles"][0], file["shared"]["frames"]
    assert (profile["type"], profile["unit"]) == ("sampled", "nanoseconds")
    assert (len(profile["samples"]), len(profile["weights"])) == (1, 1)
    assert profile["endValue"] == sum(profile["weights"]) >= 200_000_000
    assert frames[profile["samples"][0][-1]]["name"] == "serve"


def test_a_journal_has_what_happened_and_the_report_is_made_of_it(recorded):
    lines = lines_of(recorded / "j")
    kinds = Counter(line["kind"] for line in lines)
    assert [lines[0]["kind"], lines[-1]["kind"]] == ["offloop-journal", "end"]
    assert lines[0]["program"] == "app.py"
    calls = [line for line in lines if line["kind"] == "call"]
    assert [call["outcome"] for call in calls] == ["returned"] * 5 + ["lost"]
    assert kinds["load"] >= 1
    assert (kinds["worker-crash"], kinds["lag"]) == (1, 1)
    assert any(line["function"] == "time.sleep" for line in lines if line["kind"] == "thread-call")
    stall = next(line for line in lines if line["kind"] == "stall" and line["over"])
    assert stall["source"] == "time.sleep(0.2)  # blocks"
    assert "asyncio.sleep" in stall["cure"]
    page = (recorded / "r.html").read_text()
    assert "time.sleep(0.2)  # blocks" in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert not (recorded / "r.html.journal").exists()


def test_a_killed_program_leaves_files_that_can_be_read(tmp_path):
    source = """
    import asyncio, time

    async def main():
        time.sleep(60)

    asyncio.run(main())
    """
    process = start(tmp_path, source, "--trace", "t.json", "--journal", "j", "--threshold", "0.02")
    try:
        blocked = '"kind":"stall"'
        journal = tmp_path / "j"
        eventually(lambda: journal.exists() and blocked in journal.read_text())
        eventually(lambda: "blocked by main" in (tmp_path / "t.json").read_text())
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=SECONDS_MAX)
    events = json.loads((tmp_path / "t.json").read_text())
    assert any("blocked by" in each["name"] for each in events)
    command = [sys.executable, "-m", "offloop", "report", "j", "-o", "page.html"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=SECONDS_MAX)
    assert made.returncode == 0, made.stderr
    assert "time.sleep(60)" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    ("option", "path", "said"),
    [
        ("--trace", "none/t.json", "the trace none/t.json cannot be written: No such file"),
        ("--journal", "/dev/full", "the journal /dev/full cannot be written: No space left"),
        ("--report", "none/r.html", "the report none/r.html cannot be written: no folder"),
    ],
)
def test_a_file_that_cannot_be_written_is_said_before_the_program_runs(
    tmp_path, option, path, said
):
    status, errors = run(tmp_path, "raise SystemExit('it ran')", option, path)
    assert status == 2
    assert errors.startswith(f"offloop run: {said}")
    assert errors.count("\n") == 1


def test_a_disk_that_is_full_later_ends_the_file_and_not_the_program(tmp_path):

    (tmp_path / "full.speedscope.json").symlink_to("/dev/full")
    options = ("--trace", "full.speedscope.json", "--journal", "j")
    status, errors = run(tmp_path, PROGRAM, *options, "--no-watch")
    assert status == 0
    said = "offloop: the trace full.speedscope.json ends here, and the program goes on: No space"
    assert said in errors
    assert lines_of(tmp_path / "j")[-1]["kind"] == "end"


BUSY = """
import asyncio, threading, time, offloop

def tiny(number):
    return sum(range(number % 500))

async def stall(seconds):
    time.sleep(seconds)

async def main():
    other = threading.Thread(target=asyncio.run, args=(stall(0.2),))
    async with offloop.ProcessPool(2) as pool:
        await asyncio.gather(*(pool.run(tiny, number) for number in range(4000)))
        other.start()
        await stall(0.15)
        await asyncio.gather(*(asyncio.to_thread(tiny, number) for number in range(500)))
    other.join()

if __name__ == "__main__":
    asyncio.run(main())
"""


def overlaps(events: list[dict]) -> list[tuple]:
    """Slices that begin within another one of their track and end behind it."""
    found = []
    tracks: dict[tuple, list[tuple]] = {}
    for each in events:
        if each["ph"] == "X":
            begin = round(each["ts"] * 1000)
            end = begin + round(each["dur"] * 1000)
            tracks.setdefault((each["pid"], each["tid"]), []).append((begin, -end, each["name"]))
    for track, slices in tracks.items():
        open_ends: list[int] = []
        for begin, minus_end, name in sorted(slices):
            while open_ends and open_ends[-1] <= begin:
                open_ends.pop()
            if open_ends and -minus_end > open_ends[-1]:
                found.append((track, name, begin, -minus_end, open_ends[-1]))
            open_ends.append(-minus_end)
    return found


def test_slices_of_a_track_never_overlap_and_counters_have_no_splinters(tmp_path):
    status, errors = run(tmp_path, BUSY, "--trace", "t.json")
    assert status == 0, errors
    events = json.loads((tmp_path / "t.json").read_text())
    assert overlaps(events) == []
    calls = [each for each in events if each["ph"] == "X" and "outcome" in each.get("args", ())]
    assert len(calls) == 4000
    stalled = {
        each["tid"] for each in events if each["ph"] == "X" and "cause" in each.get("args", ())
    }
    assert len(stalled) == 2, "a track for each thread's stalls"
    times = [each["ts"] for each in events if each["ph"] == "C" and each["name"] == "loop 1 busy"]
    assert all(later - one >= 20_000 for one, later in pairwise(times))
    flows = Counter((each["id"], each["ph"]) for each in events if each["ph"] in "sf")
    assert set(flows.values()) == {1}
    assert {type(number) for number, _phase in flows} == {int}, "Perfetto drops other names"
    arrows: dict[int, list[float]] = {}
    for each in events:
        if each["ph"] in "sf":
            arrows.setdefault(each["id"], []).append(each["ts"])
    assert [times for times in arrows.values() if times != sorted(times)] == []


def test_slices_of_callbacks_that_follow_each_other_do_not_overlap(tmp_path):
    source = """
    import asyncio, time

    def outer():
        def compute():
            until = time.perf_counter() + 0.0025
            while time.perf_counter() < until:
                pass
        return compute

    async def main():
        for _ in range(100):
            asyncio.get_running_loop().call_soon(outer())
        await asyncio.sleep(0)

    asyncio.run(main())
    """
    status, errors = run(tmp_path, source, "--trace", "t.json")
    assert status == 0, errors
    text = (tmp_path / "t.json").read_text()
    assert '"outer.<locals>.compute"' in text, "Perfetto 52 shows escapes as they are"
    events = json.loads(text)
    names = [each["name"] for each in events if each["ph"] == "X" and "args" not in each]
    assert names.count("outer.<locals>.compute") == 100
    assert overlaps(events) == []


def test_a_uvloop_that_waits_is_not_drawn_as_busy(tmp_path):
    source = """
    import asyncio, time

    async def main():
        await asyncio.sleep(0.3)
        time.sleep(0.2)
        await asyncio.sleep(0.3)

    asyncio.run(main())
    """
    status, errors = run(tmp_path, source, "--loop", "uvloop", "--trace", "t.json")
    assert status == 0, errors
    events = json.loads((tmp_path / "t.json").read_text())
    rounds = [each for each in events if each["name"] == "(round of callbacks)"]
    assert max(each["dur"] for each in rounds) >= 150_000
    busy = [each for each in events if each["name"] == "loop 1 busy"]
    idle = [each for each in busy if each["args"]["percent"] < 25]
    assert len(idle) > len(busy) / 2, busy


def test_a_uvloop_is_busy_with_short_callbacks(tmp_path):
    source = """
    import asyncio, time

    async def main():
        until = time.thread_time() + 0.5
        while time.thread_time() < until:
            await asyncio.sleep(0)

    asyncio.run(main())
    """
    status, errors = run(tmp_path, source, "--loop", "uvloop", "--trace", "t.json")
    assert status == 0, errors
    events = json.loads((tmp_path / "t.json").read_text())
    percent = [each["args"]["percent"] for each in events if each["name"] == "loop 1 busy"]
    assert sum(each > 75 for each in percent) > len(percent) / 2, percent


def test_what_a_disk_without_room_leaves_is_whole(tmp_path):
    limit = 20_000
    source = f"""
    import asyncio, resource

    async def main():
        await asyncio.gather(*(asyncio.to_thread(sum, ()) for _ in range(1000)))

    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
    asyncio.run(main())
    """
    status, errors = run(tmp_path, source, "--trace", "t.json", "--journal", "j")
    assert status == 0, errors
    for name in ("trace t.json", "journal j"):
        said = f"offloop: the {name} ends here, and the program goes on: File too large"
        assert errors.count(said) == 1
    assert json.loads((tmp_path / "t.json").read_text())[0]["name"] == "process_name"
    assert (tmp_path / "t.json").stat().st_size <= limit
    assert lines_of(tmp_path / "j")[0]["kind"] == "offloop-journal"
    assert (tmp_path / "j").read_bytes().endswith(b"\n")


def test_a_program_that_closes_our_descriptors_gets_nothing_into_its_own_files(tmp_path):
    source = """
    import asyncio, os, time

    async def work():
        for _ in range(3):
            await asyncio.sleep(0.15)
            time.sleep(0.06)

    FILES = {"t.json", "j", "t.speedscope.json"}
    asyncio.run(work())
    for each in os.listdir("/proc/self/fd"):
        path = f"/proc/self/fd/{each}"
        if os.path.islink(path) and os.path.basename(os.readlink(path)) in FILES:
            os.close(int(each))
    files = [open(f"own-{number}.txt", "w") for number in range(40)]
    asyncio.run(work())
    for file in files:
        print("own", file=file)
        file.close()
    """
    files = ("--trace", "t.json", "--journal", "j", "--trace", "t.speedscope.json")
    status, errors = run(tmp_path, source, *files)
    assert status == 0, errors
    assert {path.read_text() for path in tmp_path.glob("own-*.txt")} == {"own\n"}
    for name in ("trace t.json", "journal j", "trace t.speedscope.json"):
        said = f"offloop: the {name} ends here, and the program goes on: the program has closed"
        assert errors.count(said) == 1, errors
    json.loads((tmp_path / "t.json").read_text())
    assert len(lines_of(tmp_path / "j")) > 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is no journal of offloop"),
        (b"{}\n", "it is no journal of offloop"),
        (None, "it cannot be read: No such file"),
        (b'{"kind":"offloop-journal","version":2}', "version 2, and this offloop reads version 1"),
    ],
)
def test_what_is_no_journal_gets_one_line_and_status_1(tmp_path, content, said):
    if content is not None:
        if content.startswith(b'{"kind"'):
            content = b"%08x %b\n" % (zlib.crc32(content), content)
        (tmp_path / "j").write_bytes(content)
    command = [sys.executable, "-m", "offloop", "report", "j", "-o", "page.html"]
    made = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS_MAX
    )
    assert made.returncode == 1
    assert said in made.stderr
    assert made.stderr.count("\n") == 1
    assert not (tmp_path / "page.html").exists()
