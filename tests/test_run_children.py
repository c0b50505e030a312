"""Processes that a program starts by ``multiprocessing`` belong to its ``offloop run``."""

import sys
import textwrap

import pytest

pytestmark = pytest.mark.quick

WAYS = ["fork", "spawn", "forkserver"]
STRICT_STATUS = 3

BLOCKS = """
    import multiprocessing, sys

    def child():
        import asyncio, time

        async def main():
            time.sleep(0.2)
            return type(asyncio.get_running_loop()).__module__

        print(asyncio.run(main()), flush=True)

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        process = context.Process(target=child)
        process.start()
        process.join()
        sys.exit(process.exitcode)
"""


@pytest.mark.parametrize("way", WAYS)
def test_child_has_the_loop_and_the_watch_and_fails_a_strict_run(run_source, way):
    ended = run_source(BLOCKS, way, options=("--strict", "--threshold", "0.02"))
    assert ended.returncode == STRICT_STATUS, ended.stderr
    assert ended.stdout.startswith("offloop.")
    assert "app.py:8 in child" in ended.stderr
    assert ended.stderr.count("╭─") == 1
    assert ended.stderr.count("offloop run: ") == 1, "the report is the parent's"


@pytest.mark.parametrize("way", WAYS)
def test_child_has_what_was_asked_for(run_source, way):
    options = ("--loop", "asyncio", "--no-watch", "--no-report")
    ended = run_source(BLOCKS, way, options=options)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("asyncio.")


@pytest.mark.parametrize("way", WAYS)
def test_strict_run_of_children_that_block_no_loop_succeeds(run_source, way):
    source = BLOCKS.replace("time.sleep(0.2)", "await asyncio.sleep(0.2)")
    ended = run_source(source, way, options=("--strict", "--threshold", "0.1"))
    assert ended.returncode == 0, ended.stderr


def test_child_without_asyncio_loads_nothing_of_ours(run_source):
    source = """
        import multiprocessing, sys

        def child():
            loaded = [name for name in sys.modules if name.split(".")[0] in ("asyncio", "offloop")]
            print(loaded)

        if __name__ == "__main__":
            process = multiprocessing.get_context("spawn").Process(target=child)
            process.start()
            process.join()
            sys.exit(process.exitcode)
    """
    ended = run_source(source)
    assert (ended.returncode, ended.stdout) == (0, "[]\n"), ended.stderr


def test_asyncio_of_a_child_looks_as_it_would(run_source):
    source = """
        import multiprocessing, sys

        def child():
            import importlib.util
            spec = importlib.util.find_spec("asyncio")
            assert spec.origin.endswith("__init__.py")
            assert "__all__" in spec.loader.get_source("asyncio")
            assert "asyncio" not in sys.modules
            import asyncio
            from importlib.machinery import SourceFileLoader
            assert type(asyncio.__loader__) is type(asyncio.__spec__.loader) is SourceFileLoader
            names = [type(finder).__module__ for finder in sys.meta_path]
            assert not [name for name in names if "offloop" in name], names
            print("ok")

        if __name__ == "__main__":
            process = multiprocessing.get_context("spawn").Process(target=child)
            process.start()
            process.join()
            sys.exit(process.exitcode)
    """
    ended = run_source(source)
    assert (ended.returncode, ended.stdout) == (0, "ok\n"), ended.stderr


def test_child_of_an_interpreter_without_offloop_starts(run_source, tmp_path):
    source = f"""
        import multiprocessing, sys

        def child():
            print("started", flush=True)

        if __name__ == "__main__":
            context = multiprocessing.get_context("spawn")
            context.set_executable({str(tmp_path / "python")!r})
            process = context.Process(target=child)
            process.start()
            process.join()
            sys.exit(process.exitcode)
    """
    # Without the packages of its environment.
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')
    (tmp_path / "python").chmod(0o755)
    ended = run_source(source)
    assert (ended.returncode, ended.stdout) == (0, "started\n"), ended.stderr


GRANDCHILD = """
    import multiprocessing, sys

    def blocks():
        import asyncio, time

        async def main():
            time.sleep(0.2)

        asyncio.run(main())

    def child(context):
        process = context.Process(target=blocks)
        process.start()
        process.join()
        assert process.exitcode == 0

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        process = context.Process(target=child, args=(context,))
        process.start()
        process.join()
        sys.exit(process.exitcode)
"""


@pytest.mark.parametrize("way", WAYS)
def test_child_of_a_child_belongs_to_the_run(run_source, way):
    ended = run_source(GRANDCHILD, way, options=("--strict", "--threshold", "0.02"))
    assert ended.returncode == STRICT_STATUS, ended.stderr
    assert "in blocks.<locals>.main" in ended.stderr


@pytest.mark.parametrize("way", WAYS)
def test_strict_run_waits_for_children_as_the_interpreter_does(run_source, way):
    source = """
        import multiprocessing, sys

        def child(ended):
            import asyncio, time
            ended.recv()

            async def main():
                time.sleep(0.2)

            asyncio.run(main())

        if __name__ == "__main__":
            context = multiprocessing.get_context(sys.argv[1])
            end, ended = context.Pipe()
            context.Process(target=child, args=(ended,)).start()
            end.send("the main program ends")
    """
    ended = run_source(source, way, options=("--strict", "--threshold", "0.02"))
    assert ended.returncode == STRICT_STATUS, ended.stderr


@pytest.fixture
def run_in_folder(tmp_path, offloop_command):
    """Run a program that has a module of its own beside it, and print whether that was loaded."""

    def run(source, module, text, *options):
        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / "app.py").write_text(textwrap.dedent(source))
        (folder / f"{module}.py").write_text(text)
        return offloop_command("run", *options, str(folder / "app.py"), "spawn")

    return run


@pytest.mark.parametrize("name", ["queue", "hmac", "secrets", "click"])
def test_modules_of_the_program_may_have_the_names_of_ours(run_in_folder, name):
    ended = run_in_folder(BLOCKS, name, "raise ImportError", "--no-watch", "--no-report")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("offloop.")


def test_asyncio_of_the_programs_own_is_left_to_it(run_in_folder):
    source = """
        import multiprocessing, sys

        def child():
            import asyncio
            print(asyncio.OWN)

        if __name__ == "__main__":
            process = multiprocessing.get_context("spawn").Process(target=child)
            process.start()
            process.join()
            sys.exit(process.exitcode)
    """
    ended = run_in_folder(source, "asyncio", "OWN = 'its own'")
    assert (ended.returncode, ended.stdout) == (0, "its own\n"), ended.stderr


@pytest.mark.parametrize("way", ["spawn", "forkserver"])
def test_child_that_imports_offloop_first_joins(run_source, way):
    source = BLOCKS.replace("import asyncio, time", "import offloop, asyncio, time")
    ended = run_source(source, way, options=("--strict", "--threshold", "0.02"))
    assert ended.returncode == STRICT_STATUS, ended.stderr


def test_workers_of_a_pool_belong_to_no_run(run_source):
    source = """
        import sys
        import offloop

        def loaded():
            import asyncio
            return "offloop" in sys.modules

        with offloop.ProcessPool(1) as pool:
            print(pool.submit(loaded).result())
    """
    ended = run_source(source)
    assert (ended.returncode, ended.stdout) == (0, "False\n"), ended.stderr
