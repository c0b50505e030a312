"""The gate for pytest: a test that stalls its event loop fails, with the line that is to blame.

pytest finds this package by its entry point wherever offloop is installed. It measures nothing
until an option, an ini value or a mark asks for that, and imports offloop only then.

Shape:      options and marks are here · `asked.py` what a test is to be held to · `gated.py` the
            hooks of a run that is measured · `telling.py` findings as pytest reports them ·
            `extent.py` which tests came to their end. What is found is `offloop._gate`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from _offloop_pytest import asked

if TYPE_CHECKING:
    from _offloop_pytest.gated import Gated

MARK = (
    "offloop(max_stall='50ms', allow=()): fail this test if it blocks its event loop for that long"
    " (an offloop mark without arguments means 50ms; 'off' leaves the test alone); allow names what"
    " is not to fail it: " + ", ".join(asked.KINDS)
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the gate."""
    group = parser.getgroup("offloop", "event loops that stall")
    group.addoption(
        "--offloop-max-stall",
        metavar="TIME",
        help="fail each test that blocks its event loop for longer, as in 50ms or 0.2s; off"
        " measures no test, whatever marks and ini values say",
    )
    group.addoption(
        "--offloop-allow",
        metavar="KINDS",
        help=f"what does not fail a test, divided by commas: {', '.join(asked.KINDS)}",
    )
    group.addoption(
        "--offloop-ratchet", metavar="FILE", help="a file of stalls that are known and fail no test"
    )
    group.addoption(
        "--offloop-ratchet-write",
        action="store_true",
        help="write the stalls of this run to that file, and fail no test for them",
    )
    group.addoption("--offloop-json", metavar="FILE", help="write what was found to a JSON file")
    parser.addini("offloop_max_stall", "the default of --offloop-max-stall", default="")
    parser.addini("offloop_allow", "the default of --offloop-allow", default="")
    parser.addini("offloop_ratchet", "the default of --offloop-ratchet", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Measure the run, if that is asked for."""
    config.addinivalue_line("markers", MARK)
    asked_for = asked.of_config(config)
    if asked_for.max_stall_seconds is not None:
        _gate(config, asked_for, is_early=True)
    elif asked_for.needs_limit:
        raise pytest.UsageError(f"{asked_for.needs_limit} needs --offloop-max-stall")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Measure marked tests of a run that is not measured otherwise."""
    if not config.pluginmanager.hasplugin("offloop-gate") and any(
        item.get_closest_marker("offloop") is not None for item in items
    ):
        asked_for = asked.of_config(config)
        if not asked_for.is_off:
            # It was not there when this call began.
            _gate(config, asked_for, is_early=False).pytest_collection_modifyitems(items)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Tell of marked tests that a process of a divided run has measured: this one saw no marks."""
    config = node.config
    has_said = "offloop" in getattr(node, "workeroutput", {})
    if has_said and not config.pluginmanager.hasplugin("offloop-gate"):
        gated = _gate(config, asked.of_config(config), is_early=False)
        gated.pytest_testnodedown(node, error)


@pytest.fixture
def offloop_gate(request: pytest.FixtureRequest) -> object:
    """What the gate finds in this test.

    ``expect(*kinds)`` is a block whose findings do not fail the test. It gives a list that holds
    them when the block is over.
    """
    gated = request.config.pluginmanager.getplugin("offloop-gate")
    if gated is None and asked.of_config(request.config).is_off:
        raise pytest.skip.Exception("--offloop-max-stall=off: nothing is found")
    if gated is None or not gated.measures(request.node):
        raise pytest.UsageError("offloop_gate needs --offloop-max-stall, or the mark `offloop`")
    return gated.door()


def _gate(config: pytest.Config, asked_for: asked.Asked, *, is_early: bool) -> Gated:
    """Measure the run from now on; early if nothing of it is over."""
    with _as_it_is(config):
        from _offloop_pytest.gated import Gated

        gated = Gated(config, asked_for, is_early=is_early)
    config.pluginmanager.register(gated, "offloop-gate")
    return gated


@contextmanager
def _as_it_is(config: pytest.Config) -> Iterator[None]:
    """Import modules as they are: pytest rewrites the assertions of all that comes with a plugin.

    That would take as long as the rest of the start, in each run where no bytecode is written.
    """
    hook: Any = getattr(config.pluginmanager, "rewrite_hook", None)
    place = sys.meta_path.index(hook) if hook in sys.meta_path else None
    if place is not None:
        del sys.meta_path[place]
    try:
        yield
    finally:
        if place is not None:
            sys.meta_path.insert(place, hook)
