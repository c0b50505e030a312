"""Which file of a Rust crate imports which other one, and the floors that files stand on.

A table of floors is a sequence, from the lowest floor to the highest. Each floor names its files,
relative to a folder of sources and without a suffix. An entry stands for the file and for the
folder of that name; where two entries fit, the longer one counts.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sources import rust_code

ROOTED = re.compile(r"\b(crate|self|super)(?=::)((?:::\w+)*)(::\{)?")
"""A path that begins at the crate, at the module itself or above it; perhaps with branches."""

VISIBILITY = re.compile(r"\bpub\([^)]*\)")
"""Where something may be seen from, which is no import."""

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
        text = VISIBILITY.sub("pub", text)
        leads_to = {longest(named, files) for named in rooted_paths(text, name.split("/"))}
        # A file names those of its own folder without more.
        leads_to |= {f"{name}/{inner}" for inner in re.findall(r"\b(\w+)::", text)} & files.keys()
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


@dataclass(frozen=True)
class Place:
    """Where a file stands: on which floor, from 0 for the lowest, and by which entry of it."""

    floor: int
    entry: str


def place_of(name: str, floors: Floors) -> Place | None:
    """The place of a file; none if it stands on no floor."""
    fitting = [
        Place(number, entry)
        for number, floor in enumerate(floors)
        for entry in floor
        if name == entry or name.startswith(f"{entry}/")
    ]
    return max(fitting, key=lambda place: len(place.entry), default=None)


def upward(found: Iterable[Import], floors: Floors) -> list[str]:
    """The imports that run from one floor to a higher one."""
    return between(found, floors, lambda own, other: own.floor < other.floor)


def sideways(found: Iterable[Import], floors: Floors) -> list[str]:
    """The imports from one entry of a floor to another one of the same floor."""
    return between(
        found,
        floors,
        lambda own, other: own.floor == other.floor and own.entry != other.entry,
    )


def between(
    found: Iterable[Import], floors: Floors, is_meant: Callable[[Place, Place], bool]
) -> list[str]:
    """The imports between two places of the table of which something is so."""
    placed = [(place_of(one.file, floors), place_of(one.names, floors), one) for one in found]
    return sorted(
        f"{one.file} -> {one.names}"
        for own, other, one in placed
        if own is not None and other is not None and is_meant(own, other)
    )


def homeless(crate: Path, floors: Floors) -> list[str]:
    """The files of a crate that stand on no floor."""
    return [name for name in modules(crate) if place_of(name, floors) is None]


def gone(crate: Path, floors: Floors) -> list[str]:
    """The entries of a table that no file has."""
    files = modules(crate)
    entries = [entry for floor in floors for entry in floor]
    return [
        entry for entry in entries if not any(f"{name}/".startswith(f"{entry}/") for name in files)
    ]
