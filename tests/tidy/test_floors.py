"""The floors of the loop: each file may import from its own floor and from those below it.

The loop's native half stands in folders, which are floors of a house. An import that runs upward
joins two floors to one, and from then on neither can be read, changed or tested without the other.
"""

import re
from collections.abc import Container, Iterator
from pathlib import Path, PurePosixPath

import pytest
from sources import ROOT, rust_code

pytestmark = pytest.mark.quick

LOOP = ROOT / "crates/offloop-python/src/event_loop"

FLOORS = (
    {"ground"},
    {"handle"},
    {"port"},
    {"streams"},
    {"tls", "sock", "child"},
    {"round"},
    {"mod"},
)
"""From the bottom to the top: a folder, or a file without its suffix. `mod` joins all to a module.

What stands on one floor side by side does not know of each other.
"""

FILE_LINES_MAX = 500

Module = tuple[str, ...]
"""The name of a file in the tree of modules, from the loop's own module on."""


def floor_of(path: PurePosixPath) -> str:
    """The name in the table that a file of the loop belongs to."""
    return path.parts[0].removesuffix(".rs")


def module_of(path: PurePosixPath) -> Module:
    """Where a file stands in the tree of modules."""
    parts = path.with_suffix("").parts
    return parts[:-1] if parts[-1] == "mod" else parts


def imported(code: str, module: Module) -> Iterator[tuple[str, ...]]:
    """Every path of the loop's modules that a file's code names, from the loop's own module on.

    That is what follows `super::` or the name of the loop's module from the crate's root; `use`
    with braces is taken apart.
    """
    for match in re.finditer(r"(?:\bcrate::event_loop(?=\W)|\bsuper\b)", code):
        if code[: match.start()].endswith(("::", "pub(", "pub(in ")):
            # In the middle of a path that was met before; or who may see something, no import.
            continue
        path = re.match(r"(?:crate::event_loop|super)(?:::super)*", code[match.start() :])
        assert path
        ups = path[0].count("super")
        if ups > len(module):
            # Out of the loop, into the crate.
            continue
        start = module[: len(module) - ups] if ups else ()
        rest = code[match.start() + len(path[0]) :].removeprefix("::")
        yield from ((*start, *names) for names in taken_apart(rest))


def taken_apart(text: str) -> Iterator[tuple[str, ...]]:
    """The paths that a text begins with: one, or each of those in braces."""
    plain = re.match(r"(?:\w+::)*\w*", text)
    names = tuple(filter(None, plain[0].split("::"))) if plain else ()
    rest = text[plain.end() if plain else 0 :]
    if not rest.startswith("{"):
        yield names
        return
    depth, begin = 0, 1
    for index, letter in enumerate(rest):
        depth += (letter == "{") - (letter == "}")
        if (letter == "," and depth == 1) or depth == 0:
            item = rest[begin:index].strip()
            if item:
                yield from ((*names, *inner) for inner in taken_apart(item))
            begin = index + 1
        if depth == 0:
            return


def upward(path: PurePosixPath, code: str) -> list[str]:
    """What a file of the loop imports from a floor above its own, or from one beside it."""
    heights = {name: height for height, names in enumerate(FLOORS) for name in names}
    own = floor_of(path)
    found = []
    for target in imported(code, module_of(path)):
        # A name that is no floor stands in the loop's own file.
        floor = target[0] if target and target[0] in heights else "mod"
        if floor != own and heights[floor] >= heights[own]:
            found.append(f"{path} imports {'::'.join(target)} of {floor}")
    return found


def file_with(target: tuple[str, ...], names: Container[Module]) -> Module | None:
    """The file that a path leads to: the longest part of it that is the name of one."""
    parts = (target[:length] for length in range(len(target), 0, -1))
    return next((part for part in parts if part in names), None)


def used(module: Module, code: str, names: Container[Module]) -> set[Module]:
    """The files that one uses: those that it imports, and those of its own folder that it names."""
    imports = (file_with(target, names) for target in imported(code, module))
    inner = ((*module, name) for name in re.findall(r"\b(\w+)::", code))
    return {file for file in (*imports, *inner) if file in names and file != module}


def circle(edges: dict[Module, set[Module]]) -> list[Module]:
    """Files that import each other, if there are any, and those between two circles, in order."""
    left = set(edges)
    while True:
        imported_by_others = {target for name in left for target in edges[name]}
        inner = {name for name in left & imported_by_others if edges[name] & left}
        if inner == left:
            return sorted(left)
        left = inner


def code_of(path: Path) -> str:
    """The code of a file, without comments and strings."""
    return "\n".join(line for _, line in rust_code(path))


def files_of_loop() -> list[Path]:
    """Every file of the loop's native half."""
    return sorted(LOOP.rglob("*.rs"))


def test_no_import_of_the_loop_runs_upward():
    found = [
        line
        for path in files_of_loop()
        for line in upward(PurePosixPath(path.relative_to(LOOP)), code_of(path))
    ]
    assert found == []


def test_files_of_the_loop_import_in_no_circle():
    names = {module_of(PurePosixPath(path.relative_to(LOOP))): path for path in files_of_loop()}
    edges = {module: used(module, code_of(path), names) for module, path in names.items()}
    assert circle(edges) == []


def test_every_file_of_the_loop_is_on_a_floor():
    known = set().union(*FLOORS)
    names = {floor_of(PurePosixPath(path.relative_to(LOOP))) for path in files_of_loop()}
    assert names == known


def test_files_of_the_loop_stay_short():
    core = ROOT / "crates/offloop-core/src/event_loop"
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for folder in (LOOP, core)
        for path in folder.rglob("*.rs")
    }
    assert {name: length for name, length in lengths.items() if length > FILE_LINES_MAX} == {}


def test_what_the_loop_decides_is_without_python_and_system():
    core = ROOT / "crates/offloop-core/src/event_loop"
    text = "\n".join(code_of(path) for path in core.rglob("*.rs"))
    assert not re.search(r"\b(?:pyo3|libc|offloop_sys|std::(?:io|os))\b", text)


@pytest.mark.parametrize(
    ("path", "code", "imports"),
    [
        ("ground/cell.rs", "use super::super::handle::Handle;", ["handle::Handle of handle"]),
        ("ground/mod.rs", "use super::handle::Handle;", ["handle::Handle of handle"]),
        (
            "handle/class.rs",
            "super::super::round::turn::run(handle)",
            ["round::turn::run of round"],
        ),
        ("handle/mod.rs", "use crate::event_loop::port::LoopPort;", ["port::LoopPort of port"]),
        (
            "port/watch.rs",
            "use super::super::{\n    handle::Handle,\n    streams::{reading, stream::Stream},\n};",
            ["streams::reading of streams", "streams::stream::Stream of streams"],
        ),
        ("tls/records.rs", "use super::super::sock::go_on;", ["sock::go_on of sock"]),
        ("sock.rs", "use super::round::LoopCore;", ["round::LoopCore of round"]),
        ("streams/reading.rs", "use super::super::LoopCore;", ["LoopCore of mod"]),
        ("streams/reading.rs", "pub(in super::super) fn f()", []),
        ("handle/mod.rs", "pub(super) fn f()", []),
        ("round/turn.rs", "use super::super::{sock, tls};\nuse super::LoopCore;", []),
        ("round/mod.rs", "use super::port::LoopPort;\nuse lending::Lent;", []),
        ("streams/writing.rs", "use super::flushing::flush;\nuse crate::names::function;", []),
        ("sock.rs", "use super::port::{self, LoopPort};\nuse super::super::names::function;", []),
        ("mod.rs", "use round::LoopCore;", []),
    ],
)
def test_imports_that_run_upward_are_seen(path, code, imports):
    found = upward(PurePosixPath(path), code)
    assert found == [f"{path} imports {name}" for name in imports]


def test_circles_are_seen():
    assert circle({("a",): {("b",)}, ("b",): {("c",)}, ("c",): set()}) == []
    edges = {("a",): {("b",)}, ("b",): {("c",)}, ("c",): {("b",), ("d",)}, ("d",): set()}
    assert circle(edges) == [("b",), ("c",)]


def test_a_folder_uses_the_files_that_it_names():
    names = {("round",), ("round", "turn"), ("port",)}
    code = "use super::port::LoopPort;\nfn run() {\n    turn::run()\n}"
    assert used(("round",), code, names) == {("round", "turn"), ("port",)}
    assert used(("round", "turn"), "use super::LoopCore;", names) == {("round",)}
