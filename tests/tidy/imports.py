"""Which file of a Rust crate imports which other one, and the floors that files stand on.

A table of floors is a sequence, from the lowest floor to the highest. Each floor names its files,
relative to a folder of sources and without a suffix. An entry stands for the file and for the
folder of that name; where two entries fit, the longer one counts.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sources import rust_code

ROOTED = re.compile(r"\b(crate|self|super)(?=::)((?:::\w+)*)(::\{)?")
"""A path that begins at the crate, at the module itself or above it; perhaps with branches."""

Floors = Sequence[Sequence[str]]


@dataclass(frozen=True, order=True)
class Import:
    """One file names something of another one."""

    file: str
    names: str


def modules(crate: Path) -> dict[str, Path]:
    """The files of a crate by their name: the path below `src`, without a suffix."""
    paths = [path for path in sorted(crate.rglob("*.rs")) if path != crate / "lib.rs"]
    named = {path.relative_to(crate).with_suffix("").as_posix(): path for path in paths}
    return {name.removesuffix("/mod"): path for name, path in named.items()}


def imports(crate: Path) -> set[Import]:
    """Every import between two files of a crate, whose `src` is given; its tests are left out."""
    files = modules(crate)
    found = set()
    for name, path in files.items():
        text = "\n".join(line for _, line in rust_code(path, with_tests=False))
        leads_to = {longest(named, files) for named in rooted_paths(text, name.split("/"))}
        found |= {Import(name, other) for other in leads_to if other not in (None, name)}
    return found


def rooted_paths(text: str, module: Sequence[str]) -> Iterator[list[str]]:
    """The paths that a file names, each from the root of its crate."""
    for match in ROOTED.finditer(text):
        base = {"crate": [], "self": [*module], "super": [*module[:-1]]}[match[1]]
        parts = match[2].split("::")[1:]
        while parts[:1] == ["super"]:
            base, parts = base[:-1], parts[1:]
        if match[3] is None:
            yield base + parts
            continue
        for branch in branches(text[match.end() :]):
            yield base + parts + branch


def branches(text: str) -> Iterator[list[str]]:
    """The paths between braces, of which the first has been read."""
    outer: list[list[str]] = [[]]
    path: list[str] = []
    for token in re.findall(r"\w+|[{},]", text):
        if token == "{":
            outer.append(outer[-1] + path)
            path = []
        elif token in ",}":
            if path:
                yield outer[-1] + path
            path = []
            if token == "}":
                outer.pop()
            if not outer:
                return
        else:
            path.append(token)


def longest(named: Sequence[str], files: Mapping[str, Path]) -> str | None:
    """The file that a path leads into; none for the root of the crate itself."""
    prefixes = ("/".join(named[:length]) for length in range(len(named), 0, -1))
    return next((name for name in prefixes if name in files), None)


def circles(found: Iterable[Import]) -> list[list[str]]:
    """The files that lead to each other by their imports; the larger circles first."""
    reached: dict[str, set[str]] = {}
    for one in found:
        reached.setdefault(one.file, set()).add(one.names)
    grows = True
    while grows:
        grows = False
        for names in reached.values():
            further = set().union(*(reached.get(name, set()) for name in names)) - names
            names |= further
            grows |= bool(further)
    together = {
        tuple(sorted(other for other in names if file in reached.get(other, set())))
        for file, names in reached.items()
        if file in names
    }
    return sorted(map(list, together), key=len, reverse=True)


def floor_of(name: str, floors: Floors) -> int | None:
    """The number of the floor that a file stands on, from 0 for the lowest."""
    fitting = [
        (len(entry), number)
        for number, floor in enumerate(floors)
        for entry in floor
        if name == entry or name.startswith(f"{entry}/")
    ]
    return max(fitting)[1] if fitting else None


def upward(found: Iterable[Import], floors: Floors) -> list[str]:
    """The imports that run from one floor to a higher one."""
    numbered = [(floor_of(one.file, floors), floor_of(one.names, floors), one) for one in found]
    return sorted(
        f"{one.file} -> {one.names}"
        for lower, higher, one in numbered
        if lower is not None and higher is not None and lower < higher
    )


def homeless(crate: Path, floors: Floors) -> list[str]:
    """The files of a crate that stand on no floor."""
    return [name for name in modules(crate) if floor_of(name, floors) is None]


def gone(crate: Path, floors: Floors) -> list[str]:
    """The entries of a table that no file has."""
    files = modules(crate)
    entries = [entry for floor in floors for entry in floor]
    return [
        entry for entry in entries if not any(f"{name}/".startswith(f"{entry}/") for name in files)
    ]
