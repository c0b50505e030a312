"""The examples in the docstrings run, and the names that a reader starts with have one."""

import doctest
import importlib
import pkgutil

import pytest

import offloop
import offloop.integrations
from peers import is_installed

pytestmark = pytest.mark.quick

NEEDED_PACKAGES = {
    "offloop.integrations.aiohttp": "aiohttp",
    "offloop.integrations.django": "django",
    "offloop.integrations.opentelemetry": "opentelemetry",
    "offloop.integrations.sentry": "sentry_sdk",
    "offloop.integrations.structlog": "structlog",
}
"""Modules that can be imported only beside their libraries."""

MODULES = sorted(
    module.name
    for package in (offloop, offloop._files, offloop._loop, offloop.integrations)
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    if not module.ispkg
    and module.name != "offloop.__main__"
    and is_installed(NEEDED_PACKAGES.get(module.name, "offloop"))
)
WITH_EXAMPLES = (
    offloop,
    offloop.run,
    offloop.to_process,
    offloop.to_thread,
    offloop.EventLoop,
    offloop.EventLoop.statistics,
    offloop.open,
    offloop.AsyncFile,
    offloop.read_file,
    offloop.write_file,
    offloop.ProcessPool,
    offloop.ProcessPool.submit,
    offloop.ProcessPool.run,
    offloop.ProcessPool.map,
    offloop.ProcessPool.options,
    offloop.ProcessPool.statistics,
    offloop.ThreadPool,
    offloop.Future,
    offloop.WorkerCrashed,
    offloop.DeadlineExceeded,
    offloop.metrics,
)


@pytest.mark.parametrize("name", ["offloop", *MODULES])
def test_examples_print_what_they_say(name):
    failed, _tried = doctest.testmod(importlib.import_module(name))
    assert failed == 0


@pytest.mark.parametrize("thing", WITH_EXAMPLES, ids=lambda thing: thing.__name__)
def test_names_that_a_reader_starts_with_have_an_example(thing):
    assert ">>> " in thing.__doc__
