"""Common mistakes: each has one message, which names the thing and says what to do."""

import asyncio
import concurrent.futures
import functools
import sys
import textwrap

import pytest

import calls
import offloop
from gates import run_program

pytestmark = pytest.mark.quick


async def fetch(number=1):
    """A coroutine function."""
    return number


async def stream():
    """An asynchronous generator function."""
    yield 1


class Client:
    """Coroutine functions where classes have them."""

    async def fetch(self):
        """A method."""

    @staticmethod
    async def fetch_static():
        """A function of the class."""

    @classmethod
    async def fetch_class(cls):
        """A method of the class."""

    async def __call__(self):
        """An instance that is called."""

    def plain(self):
        """No coroutine at all."""
        return "plain"


HERE = "test_error_messages"
ASYNCHRONOUS = [
    (fetch, f"`{HERE}.fetch` is a coroutine function"),
    (stream, f"`{HERE}.stream` is an asynchronous generator function"),
    (Client().fetch, f"`{HERE}.Client.fetch` is a coroutine function"),
    (Client.fetch_static, f"`{HERE}.Client.fetch_static` is a coroutine function"),
    (Client.fetch_class, f"`{HERE}.Client.fetch_class` is a coroutine function"),
    (Client(), f"`{HERE}.Client.__call__` is a coroutine function"),
    (functools.partial(fetch, 2), f"`{HERE}.fetch` is a coroutine function"),
    (functools.partial(functools.partial(Client().fetch)), f"`{HERE}.Client.fetch` is"),
    (asyncio.sleep, "`asyncio.tasks.sleep` is a coroutine function"),
]


@pytest.mark.parametrize(("function", "text"), ASYNCHRONOUS)
def test_coroutine_function_is_refused_at_once_by_its_name(pool, function, text):
    with pytest.raises(TypeError) as refused:
        pool.submit(function)
    assert text in str(refused.value)
    assert "plain function" in str(refused.value)
    assert pool.statistics().submitted == 0


def test_coroutine_function_is_refused_everywhere(pool, run):
    async def main():
        with pytest.raises(TypeError, match=r"`test_error_messages\.fetch` is a coroutine"):
            await pool.run(fetch)
        with pytest.raises(TypeError, match="is a coroutine function"):
            await offloop.to_process(fetch, 1)
        # Some loops have words of their own for it.
        with pytest.raises(TypeError, match="coroutine"):
            await asyncio.get_running_loop().run_in_executor(pool, fetch)

    run(main())
    with pytest.raises(TypeError, match="is a coroutine function"):
        pool.options(timeout=1).submit(fetch)


def test_functions_that_are_no_coroutine_functions_are_not_taken_for_one(pool):
    assert pool.submit(Client().plain).result(20) == "plain"
    assert pool.submit(functools.partial(Client().plain)).result(20) == "plain"
    assert type(pool.submit(Client).result(20)) is Client
    assert pool.submit("text".upper).result(20) == "TEXT"
    with pytest.raises(TypeError, match="not callable"):
        pool.submit(7).result(20)


def returns_a_coroutine():
    """A plain function, but for what it returns."""
    return fetch()


@pytest.mark.filterwarnings("ignore")
def test_coroutine_as_a_result_is_what_the_standard_pool_raises_and_a_remark(pool):
    error = pool.submit(returns_a_coroutine).exception(20)
    with concurrent.futures.ProcessPoolExecutor(1) as standard:
        expected = standard.submit(returns_a_coroutine).exception(20)
    assert (type(error), str(error)) == (type(expected), str(expected))
    assert "asyncio.run" in error.__notes__[-1]


class ReducesToNumber(Exception):
    """An error that comes back as something else."""

    def __reduce__(self):
        return int, ("7",)


class ReducesThereOnly(Exception):
    """An error that is itself in workers, and something else in the program."""

    def __reduce__(self):
        return rebuild_there_only, (self.args,)


def rebuild_there_only(args):
    """Rebuild the error, but in workers alone."""
    return ReducesThereOnly(*args) if is_worker() else 8


def is_worker():
    """Whether this is a worker's process."""
    return not hasattr(sys.modules["__main__"], "__file__")


def raise_number(beside):
    """Raise what is no exception any more when it has been pickled."""
    if beside:
        raise ValueError("beside") from ReducesToNumber("seven", 7)
    raise ReducesToNumber("seven", 7)


def raise_there_only():
    """Raise what can be rebuilt here and not there."""
    raise ReducesThereOnly("text")


@pytest.mark.parametrize("beside", [False, True])
def test_exception_that_reduces_to_something_else_is_rebuilt_with_a_remark(pool, beside):
    error = pool.submit(raise_number, beside).exception(20)
    if beside:
        assert (type(error), error.args) == (ValueError, ("beside",))
        error = error.__cause__.__cause__
    assert (type(error), error.args) == (ReducesToNumber, ("seven", 7))
    assert "raise_number" in str(error.__cause__) or beside
    (note,) = error.__notes__
    assert f"{HERE}.ReducesToNumber.__reduce__ rebuilds no exception, but 7 of type int" in note


def test_exception_that_reduces_to_something_else_here_is_a_decode_error(pool):
    error = pool.submit(raise_there_only).exception(20)
    assert type(error) is offloop.DecodeError
    assert f"{HERE}.ReducesThereOnly" in str(error)
    assert "8 of type int" in str(error)
    assert "raise_there_only" in str(error.__cause__)


def test_names_that_the_worker_does_not_find_are_told_with_what_to_do(tmp_path):
    (tmp_path / "shape.py").write_text("class Square:\n    pass\n")
    done = run_program(
        tmp_path,
        """
        import sys, types
        import offloop, shape

        class Circle:
            pass

        def area(shape):
            return 1

        made = types.ModuleType("made")
        sys.modules["made"] = made
        for cls, module in ((Circle, shape), (type("Line", (), {}), made)):
            cls.__module__, cls.__qualname__ = module.__name__, cls.__name__
            setattr(module, cls.__name__, cls)

        with offloop.ProcessPool(1) as pool:
            for value in (shape.Circle(), made.Line()):
                error = pool.submit(len, value).exception()
                print(type(error).__name__, "|", error)
                print("from", type(error.__cause__).__name__)
        """,
    )
    assert done.returncode == 0, done.stderr
    assert "The module `shape` has no `Circle` when it is imported in the worker" in done.stdout
    assert "top level" in done.stdout
    assert "`made` cannot be imported in the worker" in done.stdout
    assert "sys.path" in done.stdout
    assert done.stdout.count("DecodeError |") == 2
    assert done.stdout.count("from AttributeError") == 1
    assert done.stdout.count("from ModuleNotFoundError") == 1


FOREIGN = """
    class Answer:
        pass

    class Trouble(Exception):
        pass

    def answer():
        return Answer()

    def fail():
        raise Trouble("text")
"""


def test_names_that_the_program_does_not_find_are_told_with_what_to_do(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "foreign.py").write_text(textwrap.dedent(FOREIGN))
    done = run_program(
        tmp_path,
        """
        import sys
        import offloop, calls
        from pathlib import Path

        folder = str(Path(__file__).parent / "elsewhere")

        def reach(name):
            import sys
            sys.path.append(folder)
            import foreign
            return getattr(foreign, name)()

        with offloop.ProcessPool(1) as pool:
            for name in ("answer", "fail"):
                error = pool.submit(reach, name).exception()
                print(type(error).__name__, "|", error)
                print("cause:", error.__cause__)
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("DecodeError |") == 2
    assert done.stdout.count("The worker can import `foreign` and this program cannot") == 2
    assert "an exception of class foreign.Trouble could not be decoded" in done.stdout
    assert 'raise Trouble("text")' in done.stdout


def test_result_class_that_is_gone_from_its_module_is_named(pool):
    future = pool.submit(calls.echo, 1)
    assert future.result(20) == 1
    calls.Vanishing = type("Vanishing", (), {"__module__": "calls"})
    try:
        error = pool.submit(calls.echo, calls.Vanishing()).exception(20)
    finally:
        del calls.Vanishing
    assert type(error) is offloop.DecodeError
    assert "The module `calls` has no `Vanishing` when it is imported in the worker" in str(error)
