"""Exceptions with odd constructors arrive as themselves, rebuilt without them if need be.

The remote traceback is their cause, and what their built-in base knows (a file name, an exit code)
is kept.
"""

import pytest

from gates import run_program


class KeywordInNew(Exception):
    """An error that cannot even be allocated from its args."""

    def __new__(cls, *args, hint):
        error = super().__new__(cls, *args)
        error.hint = hint
        return error

    def __init__(self, *args, hint):
        super().__init__(*args)


class ForgottenPath(OSError):
    """An error with a file name that its own constructor finds out by itself."""

    def __init__(self, path):
        super().__init__(2, "gone", path)


class Exit(SystemExit):
    """An exit whose constructor takes something else than the code."""

    def __init__(self, *, reason):
        super().__init__(3)
        self.reason = reason


class TextlessError(Exception):
    """An error that cannot be printed."""

    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class HoldsLock(Exception):
    """An error with an attribute that does not travel."""

    def __init__(self, code):
        import threading

        super().__init__("held")
        self.lock, self.code = threading.Lock(), code


def raise_named(name):
    """Raise the error of that name."""
    raise {
        "new": lambda: KeywordInNew("text", hint=4),
        "path": lambda: ForgottenPath("/nowhere"),
        "exit": lambda: Exit(reason="why"),
        "textless": TextlessError,
        "lock": lambda: HoldsLock(5),
    }[name]()


@pytest.mark.parametrize(
    ("name", "cls", "facts"),
    [
        ("new", KeywordInNew, {"args": ("text",), "hint": 4}),
        ("path", ForgottenPath, {"filename": "/nowhere", "errno": 2, "strerror": "gone"}),
        ("exit", Exit, {"code": 3, "reason": "why"}),
        ("textless", TextlessError, {}),
        ("lock", HoldsLock, {"args": ("held",), "code": 5}),
    ],
)
def test_odd_error_arrives_as_itself(pool, name, cls, facts):
    error = pool.submit(raise_named, name).exception(20)
    assert type(error) is cls
    assert {fact: getattr(error, fact) for fact in facts} == facts
    assert "raise_named" in str(error.__cause__)
    assert pool.submit(abs, -1).result(20) == 1


def test_errors_of_main_arrive_as_themselves_and_without_a_remark(tmp_path):
    done = run_program(
        tmp_path,
        """
        import offloop

        class Plain(Exception):
            pass

        class Odd(Exception):
            def __init__(self, *, code):
                super().__init__("odd")
                self.code = code

        def plain():
            raise Plain("text")

        def odd():
            raise Odd(code=7)

        with offloop.ProcessPool(1) as pool:
            error = pool.submit(plain).exception()
            print(type(error) is Plain, error, getattr(error, "__notes__", []))
            error = pool.submit(odd).exception()
            print(type(error) is Odd, error, error.code)
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True text []", "True odd 7"]
