"""What passes to workers by inheritance: multiprocessing's descriptors and its key.

Queues, locks and connections of the multiprocessing module may only be pickled while a process is
being started. The program collects their descriptors while it pickles the initializer's
arguments; they travel with the setup, and the workers take them up by their index.
"""

from __future__ import annotations

import os
import sys

# Seen by type checkers alone: these modules are not imported in workers.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import types
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec

__all__ = ["InheritedFd", "adopt", "give_key"]

_descriptors: list[int] = []


def adopt(descriptors: list[int]) -> None:
    """Remember the descriptors that came with the setup."""
    _descriptors[:] = descriptors


class InheritedFd:
    """A descriptor by its index, as ``multiprocessing.reduction.DupFd`` is expected to make."""

    def __init__(self, index: int) -> None:
        self._index = index

    def detach(self) -> int:
        """The descriptor's number in this process."""
        return _descriptors[self._index]


def give_key(key: bytes) -> None:
    """Make ``key`` the authentication key of multiprocessing, for its managers and connections.

    The module is heavy, and few workers need it: the key is set when it is first imported.
    """
    module = sys.modules.get("multiprocessing.process")
    if module is not None:
        module.current_process().authkey = key
    else:
        sys.meta_path.insert(0, _KeyGiver(key))


class _KeyGiver:
    """A finder that sees one import go by, and sets the key once it is done."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,
        target: types.ModuleType | None = None,
    ) -> ModuleSpec | None:
        """The spec that the other finders give, with our loader around theirs."""
        if name != "multiprocessing.process":
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                loader = _KeyLoader(spec.loader, self._key)  # type: ignore[arg-type]
                spec.loader = loader  # type: ignore[assignment]
                return spec
        return None


class _KeyLoader:
    def __init__(self, loader: Loader, key: bytes) -> None:
        self._loader = loader
        self._key = key

    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        self._loader.exec_module(module)
        module.current_process().authkey = self._key
        name_process()


def name_process() -> None:
    """Give this worker a name of its own in logs, once somebody has imported multiprocessing."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None:
        process.current_process().name = f"Worker-{os.getpid()}"
