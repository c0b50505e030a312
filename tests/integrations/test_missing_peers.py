"""What an integration says whose library is not installed; and that none is imported unasked."""

import pytest

from gates import run_program

pytestmark = pytest.mark.quick

PEERS = {
    "aiohttp": ("aiohttp", "aiohttp"),
    "django": ("django", "django"),
    "opentelemetry": ("opentelemetry", "opentelemetry-sdk"),
    "sentry": ("sentry_sdk", "sentry-sdk"),
    "structlog": ("structlog", "structlog"),
}
"""Integration -> the module that it imports, the package that has it."""


@pytest.mark.parametrize("name", PEERS)
def test_missing_library_is_named_in_one_line(tmp_path, name):
    module, package = PEERS[name]
    ended = run_program(
        tmp_path,
        f"""
        import sys
        sys.modules[{module!r}] = None
        try:
            import offloop.integrations.{name}
        except ImportError as error:
            print(error)
        """,
    )
    assert ended.stdout == (f"offloop.integrations.{name} needs {package}: pip install {package}\n")


def test_nothing_is_imported_unasked(tmp_path):
    modules = sorted(module for module, _ in PEERS.values())
    ended = run_program(
        tmp_path,
        f"""
        import sys
        import offloop, offloop.integrations, offloop.integrations.asgi
        print([name for name in {modules} if name in sys.modules])
        """,
    )
    assert ended.stdout == "[]\n"
