"""Finds a program and runs it as ``__main__``, as the interpreter itself would.

A program is what ``python`` takes: a script, compiled or not, a folder or an archive with a
``__main__`` in it, a module, code on the command line or on standard input. It gets a module of its
own in ``sys.modules["__main__"]``, which stays there to the end, so that pickling by reference,
``multiprocessing`` and late callbacks find it.  That module's attributes, ``sys.argv`` and
``sys.path[0]`` are what ``python`` would have set.

Errors: `ProgramMissing` when there is nothing to run; what the program raises is shown without
        this package's stack entries, and ends in the exit status that the interpreter would use.
Source: pymain_run_python of main.c and _PyRun_SimpleFile of pythonrun.c, 3.11 to 3.15.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import io
import linecache
import marshal
import os
import pkgutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, ModuleType, TracebackType
from typing import NoReturn

_NOT_THE_PROGRAMS = (os.path.dirname(os.path.abspath(__file__)) + os.sep, "<frozen ")
"""What stands above the program's own stack entries while it is being loaded."""

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130
"""What a shell reports for a program that ended by SIGINT."""


EXIT_NOT_OPENED = 2
"""The interpreter's own status for a script that it cannot open."""

_COMPILED_HEADER_BYTES = 16
"""The magic number, the flags, and what the source was; then comes the code."""


class ProgramMissing(Exception):
    """There is no such program, or it cannot be run."""

    def __init__(self, text: str, status: int = EXIT_ERROR) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Program:
    """A compiled main program, and the names under which it will know itself."""

    code: CodeType
    argv0: str
    # What the interpreter sets besides the name: ``__file__`` and more.
    attributes: Mapping[str, object]


def enter_import_root(folder: str | None) -> None:
    """Make ``folder`` the first place for imports, in place of our own script's folder."""
    if not sys.flags.safe_path:
        sys.path[0:1] = [] if folder is None else [folder]


def _directory() -> str | None:
    """The working directory; None when it has been deleted."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def load_script(path: str) -> Program:
    """Read and compile the script at ``path``; a folder or an archive runs its ``__main__``."""
    # As the interpreter makes it: without taking it apart, so not by ``os.path.abspath``.
    absolute = path if os.path.isabs(path) else os.path.join(_directory() or "", path)
    if pkgutil.get_importer(absolute) is not None:
        return _load_container(absolute, path)
    try:
        with io.open_code(absolute) as stream:
            content = stream.read()
    except OSError as error:
        text = f"can't open file {absolute!r}: {error.strerror}"
        raise ProgramMissing(text, EXIT_NOT_OPENED) from None
    enter_import_root(os.path.dirname(os.path.realpath(path)))
    if absolute.endswith(".pyc") or content[:2] == importlib.util.MAGIC_NUMBER[:2]:
        loader: type = importlib.machinery.SourcelessFileLoader
        code = _read_compiled(content)
    else:
        loader = importlib.machinery.SourceFileLoader
        code = compile(content, absolute, "exec", dont_inherit=True)
    attributes = {
        "__file__": absolute,
        "__cached__": None,
        "__loader__": loader("__main__", absolute),
    }
    return Program(code, path, attributes)


def _read_compiled(content: bytes) -> CodeType:
    """The code of a ``.pyc`` file, or the errors that the interpreter has for any other file."""
    if content[:4] != importlib.util.MAGIC_NUMBER:
        raise RuntimeError("Bad magic number in .pyc file")
    code = marshal.loads(content[_COMPILED_HEADER_BYTES:])
    if not isinstance(code, CodeType):
        raise RuntimeError("Bad code object in .pyc file")
    return code


def _load_container(absolute: str, path: str) -> Program:
    if sys.flags.safe_path:
        sys.path.insert(0, absolute)
    enter_import_root(absolute)
    spec = importlib.machinery.PathFinder.find_spec("__main__", [absolute])
    if spec is None:
        raise ProgramMissing(f"can't find '__main__' module in {absolute!r}")
    return _from_spec(spec, argv0=path)


def load_code(source: str) -> Program:
    """Compile what was given with ``-c``."""
    enter_import_root("")
    if sys.version_info >= (3, 14):
        source = textwrap.dedent(source)
    source += "\n"
    code = compile(source, "<string>", "exec", dont_inherit=True)
    # From 3.13 on tracebacks show the lines. Its first versions looked them up by the name alone.
    register = getattr(linecache, "_register_code", None)
    if register is not None:
        by_code = hasattr(linecache, "_interactive_cache")
        register(code if by_code else "<string>", source, "<string>")
    return Program(code, "-c", {"__loader__": importlib.machinery.BuiltinImporter})


def load_stdin(argv0: str) -> Program:
    """Read the program from standard input, to its end."""
    if sys.stdin is None:
        raise ProgramMissing("standard input is closed")
    enter_import_root("")
    code = compile(sys.stdin.buffer.read(), "<stdin>", "exec", dont_inherit=True)
    attributes = {
        "__file__": "<stdin>",
        "__cached__": None,
        "__loader__": importlib.machinery.BuiltinImporter,
    }
    return Program(code, argv0, attributes)


def load_module(name: str) -> Program:
    """Find and compile the module ``name``; a package runs its ``__main__`` submodule."""
    enter_import_root(_directory())
    spec = _find_module(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = _find_module(f"{name}.__main__")
        if spec is None:
            raise ProgramMissing(f"{name!r} is a package and has no '__main__' module")
    if spec is None:
        raise ProgramMissing(f"no module named {name!r}")
    return _from_spec(spec, argv0=spec.origin or name)


def _find_module(name: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            return None
        raise


def _from_spec(spec: importlib.machinery.ModuleSpec, argv0: str) -> Program:
    get_code = getattr(spec.loader, "get_code", None)
    code = get_code(spec.name) if get_code is not None else None
    if code is None:
        raise ProgramMissing(f"no code object available for {spec.name!r}")
    attributes = {
        "__file__": spec.origin or argv0,
        "__cached__": spec.cached,
        "__loader__": spec.loader,
        "__package__": spec.parent,
        "__spec__": spec,
    }
    return Program(code, argv0, attributes)


def execute(program: Program, arguments: Sequence[str]) -> None:
    """Run ``program`` as ``__main__``; raises only ``SystemExit``."""
    sys.argv[:] = [program.argv0, *arguments]
    main = _install_main(program)
    try:
        exec(program.code, main.__dict__)
    except SystemExit:
        raise
    except BaseException as error:
        end_with(error, program.code)


def end_with(error: BaseException, main: CodeType | None = None) -> NoReturn:
    """Show what the program raised, from its own first stack entry on, and end as it would have.

    ``main`` is the code of the main program, where it had begun.
    """
    error = error.with_traceback(_program_frames(error.__traceback__, main))
    # As the interpreter does: debuggers look at it, and so does the end of the runtime.
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
    sys.last_exc = error  # type: ignore[attr-defined, unused-ignore]
    sys.excepthook(type(error), error, error.__traceback__)
    interrupted = isinstance(error, KeyboardInterrupt)
    raise SystemExit(EXIT_INTERRUPTED if interrupted else EXIT_ERROR) from None


def _install_main(program: Program) -> ModuleType:
    main = ModuleType("__main__")
    names = vars(main)
    names["__builtins__"] = sys.modules["builtins"]
    names.update(program.attributes)
    # Versions differ in these; the module that we run in ourselves has what this one has.
    own = vars(sys.modules["__main__"])
    if "__annotations__" in own:
        names.setdefault("__annotations__", {})
    if "__cached__" not in own:
        names.pop("__cached__", None)
    sys.modules["__main__"] = main
    if "__mp_main__" in sys.modules:
        # What ``multiprocessing`` calls the main program, under which it unpickles.
        sys.modules["__mp_main__"] = main
    return main


def _program_frames(traceback: TracebackType | None, main: CodeType | None) -> TracebackType | None:
    """The part of ``traceback`` that begins in ``main``, or below ours and the importer's."""
    frame = traceback
    while frame is not None:
        code = frame.tb_frame.f_code
        if code is main or (main is None and not code.co_filename.startswith(_NOT_THE_PROGRAMS)):
            return frame
        frame = frame.tb_next
    return traceback if main is not None else None
