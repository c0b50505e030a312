"""The catalogue of blocking functions: what it names exists, and is called and shown that way."""

import builtins
import functools
import importlib.util
import pkgutil
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

pytestmark = pytest.mark.quick

CATALOGUE = Path(__file__).parents[1] / "crates/offloop-core/src/watch/catalogue.toml"
FUNCTIONS = tomllib.loads(CATALOGUE.read_text())["function"]
STANDARD = Path(sysconfig.get_path("stdlib"))


def named(*keys: str) -> list[str]:
    """Everything that the catalogue names under these keys, in its order."""
    return [name for function in FUNCTIONS for key in keys for name in function.get(key, ())]


def is_standard(name: str) -> bool:
    """Whether a name is a builtin or belongs to the standard library."""
    top = name.split(".")[0]
    return top in sys.stdlib_module_names or hasattr(builtins, top)


def found(name: str) -> Any:
    """What a dotted name stands for."""
    if hasattr(builtins, name.split(".")[0]):
        name = f"builtins.{name}"
    try:
        return pkgutil.resolve_name(name)
    except AttributeError:
        # Before Python 3.13 some classes are hidden behind the function that makes one.
        owner, _, method = name.rpartition(".")
        return getattr(type(pkgutil.resolve_name(owner)()), method)


@functools.cache
def functions_of(path: Path) -> frozenset[str]:
    """The qualified names of all functions in a source file."""

    def codes(code: CodeType) -> Iterator[CodeType]:
        yield code
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                yield from codes(constant)

    code = compile(path.read_bytes(), path, "exec", dont_inherit=True)
    return frozenset(inner.co_qualname for inner in codes(code))


def is_shown(entry: str) -> bool:
    """Whether the standard library has the file of an entry, and the function in it."""
    name, _, function = entry.partition(":")
    if name.startswith("<frozen "):
        module = name.removeprefix("<frozen ").removesuffix(">")
        name = module.replace(".", "/") + ".py"
    path = STANDARD / name
    if name.endswith("/"):
        return path.is_dir()
    return path.is_file() and (not function or function in functions_of(path))


def test_the_catalogue_is_large():
    standard = set(filter(is_standard, named("names", "methods")))
    assert len(standard) >= 250
    assert len(named("names", "methods")) >= 400


def test_nothing_is_named_twice():
    every = named("names", "methods", "chains", "entries")
    assert sorted({name for name in every if every.count(name) > 1}) == []


@pytest.mark.parametrize("name", [name for name in named("names", "methods") if is_standard(name)])
def test_function_of_the_standard_library_exists(name):
    assert callable(found(name))


def test_methods_belong_to_classes():
    owners = {name.rpartition(".")[0] for name in named("methods") if is_standard(name)}
    assert [owner for owner in owners if not callable(found(owner))] == []


@pytest.mark.parametrize("chain", named("chains"))
def test_chain_begins_with_a_function(chain):
    function, _, method = chain.partition("().")
    assert callable(found(function))
    assert method.isidentifier()


STANDARD_FUNCTIONS = [
    function
    for function in FUNCTIONS
    if function.get("entries")
    and all(map(is_standard, function.get("names", []) + function.get("methods", [])))
]


@pytest.mark.parametrize("function", STANDARD_FUNCTIONS, ids=lambda one: one["entries"][0])
def test_entry_of_the_standard_library_exists(function):
    # Files were renamed between versions of Python: one of the names is that of this version.
    assert any(map(is_shown, function["entries"]))


def test_package_that_is_installed_has_what_is_named():
    installed = [
        name
        for name in named("names", "methods")
        if not is_standard(name) and importlib.util.find_spec(name.split(".")[0]) is not None
    ]
    assert [name for name in installed if not callable(found(name))] == []


def test_aliases_are_modules_that_the_catalogue_names():
    aliases = tomllib.loads(CATALOGUE.read_text())["aliases"]
    every = named("names", "methods")
    unused = [
        module
        for module in aliases.values()
        if not any(name.startswith(f"{module}.") for name in every)
    ]
    assert unused == []
