"""The main module of a worker: imported, or empty and filled by the program's definitions.

Source: multiprocessing.spawn, for the names under which it is imported.
"""

from __future__ import annotations

import sys
import types

from _offloop_worker import namespace
from _offloop_worker.plain import fingerprint

# Seen by type checkers alone: ``typing`` is not imported in workers.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["import_main", "make_main", "run_initializer"]


def make_main() -> None:
    """Give this process an empty ``__main__`` for what the program sends."""
    main = types.ModuleType("__main__")
    vars(main)["__builtins__"] = sys.modules["builtins"]
    namespace.use_main(main)


def import_main(name: str | None, path: str | None) -> None:
    """Import the program's main module, by the name or the path that it was started by.

    As multiprocessing does it: under the name ``__mp_main__``, so that its guard holds. (It runs a
    copy of the module; here the globals of the functions are those of the module itself.)
    """
    import importlib.util
    import io

    main = types.ModuleType("__mp_main__")
    if name is not None:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            raise ModuleNotFoundError(f"no module named {name!r}", name=name)
        loader: Any = spec.loader
        code = loader.get_code(name)
        main.__spec__, main.__loader__ = spec, loader
        main.__package__, main.__file__ = spec.parent, spec.origin
    else:
        main.__file__ = path
        with io.open_code(path or "") as file:
            code = compile(file.read(), path or "", "exec", dont_inherit=True)
    vars(main)["__builtins__"] = sys.modules["builtins"]
    namespace.use_main(main)
    try:
        exec(code, vars(main))
    except BaseException as error:
        error.add_note(
            "offloop: workers import the main module, since it is guarded; what they must not run "
            'belongs below its `if __name__ == "__main__"`'
        )
        raise
    namespace.note_import(vars(main))


def run_initializer(pickled: bytes, definitions: list[tuple[int, bytes]]) -> None:
    """Run an initializer; whatever it changes in the namespaces stays as it leaves it."""
    from _offloop_worker import _offloop

    _offloop.set_importing(True)
    try:
        for number, data in definitions:
            namespace.announce(number, data)
        namespace.enter(tuple(number for number, _ in definitions))
        initializer, arguments = namespace.load(pickled)
    finally:
        _offloop.set_importing(False)
    before = {key: (value, fingerprint(value)) for key, value in namespace.members()}
    initializer(*arguments)
    nothing = (object(), None)
    for key, value in namespace.members():
        old, mark = before.get(key, nothing)
        if value is not old or fingerprint(value) != mark:
            namespace.own(key)
