"""The mixins of CPython's `test.test_concurrent_futures`, wherever this version keeps them.

From 3.12 on the suite is a package with a module for each topic; in 3.11 it is one module. Both
hold the same mixins, so the rest of our suite does not care.
"""

import importlib
from types import ModuleType

_PACKAGE = "test.test_concurrent_futures"


def module_of(topic: str) -> ModuleType:
    """The module that holds the tests of `topic`, such as ``"shutdown"`` or ``"process_pool"``."""
    package = importlib.import_module(_PACKAGE)
    if not hasattr(package, "__path__"):
        return package
    name = topic if topic in ("executor", "util") else f"test_{topic}"
    return importlib.import_module(f"{_PACKAGE}.{name}")


def mixin_of(topic: str, name: str) -> type:
    """One mixin. 3.11 and 3.12 name some of them in another way."""
    module = module_of(topic)
    for candidate in (name, name.removesuffix("s"), f"{name}s"):
        if hasattr(module, candidate):
            return getattr(module, candidate)
    raise LookupError(f"{module.__name__} has no {name}")
