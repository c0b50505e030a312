"""The floors of the loop: each file may import from its own floor and from those below it.

The loop's native half stands in folders, which are floors of a house. An import that runs upward
joins two floors to one, and from then on neither can be read, changed or tested without the other.
"""

import re

import pytest
from imports import circles, gone, imports, place_of, sideways, upward
from sources import ROOT, rust_code

BINDING = ROOT / "crates/offloop-python/src"
LOOP = BINDING / "event_loop"
DECISIONS = ROOT / "crates/offloop-core/src/event_loop"

FLOORS = (
    # Cells, views, addresses, the way from C to Rust.
    ("event_loop/ground",),
    # Callbacks that wait.
    ("event_loop/handle",),
    # What the floors above may use of a loop.
    ("event_loop/port",),
    # Connections.
    ("event_loop/streams",),
    # What stands here side by side does not know of each other.
    ("event_loop/tls", "event_loop/sock", "event_loop/child"),
    # The loop itself.
    ("event_loop/round",),
    # The file that joins all to a module; and any that is in none of the folders.
    ("event_loop",),
)
FILE_LINES_MAX = 499


@pytest.fixture(scope="module")
def loop_imports():
    """The imports of the loop's files."""
    found = {one for one in imports(BINDING) if one.file.split("/")[0] == "event_loop"}
    assert len(found) > 100
    return found


def test_no_import_of_the_loop_runs_upward(loop_imports):
    assert upward(loop_imports, FLOORS) == []
    assert sideways(loop_imports, FLOORS) == []


def test_files_of_the_loop_import_in_no_circle(loop_imports):
    assert circles(loop_imports) == []


def test_every_file_of_the_loop_is_on_a_floor(loop_imports):
    assert gone(BINDING, FLOORS) == []
    on_top = {one.file for one in loop_imports if place_of(one.file, FLOORS).entry == "event_loop"}
    assert on_top == {"event_loop"}


def test_files_of_the_loop_stay_short():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for folder in (LOOP, DECISIONS)
        for path in folder.rglob("*.rs")
    }
    assert {name: length for name, length in lengths.items() if length > FILE_LINES_MAX} == {}


def test_c_calls_the_loop_through_the_ground_alone():
    found = {
        path.relative_to(LOOP).as_posix()
        for path in LOOP.rglob("*.rs")
        if re.search(r'extern "C" fn', path.read_text())
    }
    assert found == {"ground/trampoline.rs", "ground/slots.rs"}


def test_what_the_loop_decides_is_without_python_and_system():
    lines = [line for path in DECISIONS.rglob("*.rs") for _, line in rust_code(path)]
    text = "\n".join(lines)
    assert lines
    assert not re.search(r"\b(?:pyo3|libc|offloop_sys|std::(?:io|os))\b", text)


@pytest.mark.parametrize(
    ("path", "code", "found"),
    [
        ("ground/cell", "use super::super::handle::Handle;", ["handle"]),
        ("ground/mod", "use super::handle::Handle;", ["handle"]),
        ("handle/class", "super::super::round::turn::run(handle)", ["round/turn"]),
        ("handle/mod", "use crate::event_loop::port::LoopPort;", ["port"]),
        (
            "port/watch",
            "use super::super::{\n    handle::Handle,\n    streams::{turn, stream::Stream},\n};",
            ["streams", "streams/stream"],
        ),
        ("tls/records", "use super::super::sock::go_on;", ["sock"]),
        ("sock", "use super::round::LoopCore;", ["round"]),
        ("streams/reading", "use super::super::LoopCore;", [""]),
        ("streams/reading", "pub(in super::super) fn f()", []),
        ("handle/mod", "pub(super) fn f()", []),
        ("round/turn", "use super::super::{sock, tls};\nuse super::LoopCore;", []),
        ("round/mod", "use super::port::LoopPort;\nuse turn::Turn;", []),
        ("streams/writing", "use super::stream::flush;\nuse crate::names::function;", []),
        ("sock", "use super::port::{self, LoopPort};\nuse super::super::names::function;", []),
        ("mod", "use round::LoopCore;", []),
    ],
)
def test_imports_that_run_upward_or_sideways_are_seen(tmp_path, path, code, found):
    house = ["mod", "sock", "round/turn", "streams/stream", "tls/records"]
    house += [f"{folder}/mod" for folder in ("ground", "handle", "port", "streams", "tls", "round")]
    for name in {*house, path}:
        file = tmp_path / "event_loop" / f"{name}.rs"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code if name == path else "")
    seen = imports(tmp_path)
    own = f"event_loop/{path}".removesuffix("/mod")
    expected = [f"{own} -> {'/'.join(filter(None, ('event_loop', name)))}" for name in found]
    assert upward(seen, FLOORS) + sideways(seen, FLOORS) == expected
