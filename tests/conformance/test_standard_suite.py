"""CPython's own tests of executors, aimed at `offloop.ProcessPool`.

The classes are built as the standard suite builds them: a mixin of tests, an executor and the base
class, once for each start method. What does not run stands in `exclusions`, with its reason.
"""

import concurrent.futures
import sys
import types
import unittest
import unittest.mock
import warnings

import pytest
from exclusions import ADDED_LATER, EXCLUSIONS, FORK_EXCLUSIONS
from standard import mixin_of, module_of

import offloop

pytestmark = pytest.mark.timeout(120)

util = module_of("util")
shutdown = module_of("shutdown")

TOPICS = (
    ("process_pool", "ProcessPoolExecutorTest"),
    ("shutdown", "ProcessPoolShutdownTest"),
    ("wait", "WaitTests"),
    ("as_completed", "AsCompletedTests"),
    ("init", "InitializerMixin"),
    ("init", "FailingInitializerMixin"),
    ("deadlock", "ExecutorDeadlockTest"),
)


class SpawnMixin(util.ProcessPoolSpawnMixin):
    """Our pool, asked for a spawn context."""

    executor_type = offloop.ProcessPool


class ForkserverMixin(util.ProcessPoolForkserverMixin):
    """Our pool, asked for a forkserver context."""

    executor_type = offloop.ProcessPool


class ForkMixin(util.ProcessPoolForkMixin):
    """Our pool, asked for a fork context, which it takes and starts as it always does."""

    executor_type = offloop.ProcessPool


def build(mixin: type, executor: type) -> type:
    """One test class, without the excluded tests."""
    name = f"{executor.__name__.removesuffix('Mixin')}{mixin.__name__}"
    excluded = dict.fromkeys(EXCLUSIONS.get(mixin.__name__, ()))
    if executor is ForkMixin:
        excluded |= dict.fromkeys(FORK_EXCLUSIONS.get(mixin.__name__, ()))
    namespace = {"__module__": __name__, "__doc__": mixin.__doc__, **excluded}
    return type(name, (mixin, executor, util.BaseTestCase), namespace)


for topic, mixin_name in TOPICS:
    for executor_mixin in (SpawnMixin, ForkserverMixin, ForkMixin):
        test_class = build(mixin_of(topic, mixin_name), executor_mixin)
        globals()[test_class.__name__] = test_class
del test_class


class ExclusionTest(unittest.TestCase):
    """The list of exclusions is kept honest."""

    def test_every_exclusion_names_a_test_of_the_suite(self):
        mixins = {name: mixin_of(topic, name) for topic, name in TOPICS}
        for mixin, tests in [*EXCLUSIONS.items(), *FORK_EXCLUSIONS.items()]:
            for name, reason in tests.items():
                with self.subTest(mixin=mixin, test=name):
                    self.assertTrue(reason)
                    if sys.version_info >= ADDED_LATER.get(name, (3, 11)):
                        self.assertTrue(hasattr(mixins[mixin], name))

    def test_most_of_the_suite_runs(self):
        running = [
            name
            for test_class in globals().values()
            if isinstance(test_class, type) and issubclass(test_class, unittest.TestCase)
            for name in unittest.defaultTestLoader.getTestCaseNames(test_class)
        ]
        self.assertGreater(len(running), 130)


def run_script_on_our_pool(*arguments, **environment):
    """Run one of the suite's scripts with our pool in the place of the standard one."""
    *options, script = arguments
    script = script.replace(
        "from concurrent.futures import ProcessPool",
        "import multiprocessing; from offloop import ProcessPool",
    )
    return standard_assert_python_ok(*options, script, **environment)


standard_assert_python_ok = shutdown.assert_python_ok


def setUpModule():
    """As the standard suite does, and let its scripts find our pool."""
    patch = unittest.mock.patch.object(shutdown, "assert_python_ok", run_script_on_our_pool)
    patch.start()
    unittest.addModuleCleanup(patch.stop)
    # Some of its tests make the pool by its name.
    ours = {**vars(concurrent.futures), "ProcessPoolExecutor": offloop.ProcessPool}
    patch = unittest.mock.patch.object(shutdown, "futures", types.SimpleNamespace(**ours))
    patch.start()
    unittest.addModuleCleanup(patch.stop)
    # A manager of the suite forks, and this process has threads: the warning is not about us.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
