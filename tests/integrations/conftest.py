"""What tests of integrations share: loops, and what the watch tells.

They are collected only where the packages that they need are installed; what is left out is named
at the end.
"""

import asyncio
from collections.abc import Callable, Iterator

import pytest

import offloop
from offloop import _observing
from peers import is_installed

NEEDED_PACKAGES = {
    "test_aiohttp_setup.py": ("aiohttp", "uvicorn"),
    "test_asgi_middleware.py": ("fastapi", "starlette", "uvicorn", "websockets"),
    "test_django_middleware.py": ("django", "uvicorn"),
    "test_grafana_dashboard.py": (
        "opentelemetry.exporter.prometheus",
        "prometheus_client",
        "uvicorn",
    ),
    "test_grafana_of_metrics.py": ("prometheus_client",),
    "test_otel_metrics.py": ("opentelemetry.sdk", "uvicorn"),
    "test_otel_spans.py": ("numpy", "opentelemetry.sdk", "uvicorn"),
    "test_sentry_events.py": ("sentry_sdk", "uvicorn"),
    "test_structlog_events.py": ("structlog", "uvicorn"),
}
LEFT_OUT = {
    test: [package for package in packages if not is_installed(package)]
    for test, packages in NEEDED_PACKAGES.items()
}
collect_ignore = [test for test, absent in LEFT_OUT.items() if absent]

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "offloop": offloop.new_event_loop,
}
if is_installed("uvloop"):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in the last lines which tests did not run, and what to install for them."""
    for test in collect_ignore:
        absent = " and ".join(LEFT_OUT[test])
        line = f"not run: tests/integrations/{test}: {absent} cannot be imported"
        terminalreporter.write_line(line)


@pytest.fixture(params=LOOPS)
def run_on(request: pytest.FixtureRequest) -> Callable:
    """Run a coroutine to its end, on each kind of loop."""

    def run_on(main):
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            return runner.run(main)

    return run_on


@pytest.fixture
def told():
    """What the watch tells; it is on for as long as the test lasts."""
    # It brings a server, which not every Python has yet.
    from http_served import THRESHOLD_SECONDS, Told

    told = Told()
    with offloop.watch(THRESHOLD_SECONDS, told, words=False, stalls_per_minute=1_000):
        yield told


@pytest.fixture(autouse=True)
def no_observer_stays() -> Iterator[None]:
    """What a test has had observe the calls of pools sees no other test's."""
    before = list(_observing.observers)
    yield
    _observing.observers[:] = before
