"""A plug-in of Twisted's trial: a reporter that notes the outcome of each test, as it ends.

The lines are those of `outcome_log`.
"""

from typing import Any

from outcome_log import note
from twisted.plugin import IPlugin
from twisted.trial.itrial import IReporter
from twisted.trial.reporter import Reporter
from zope.interface import implementer


class OutcomeReporter(Reporter):  # type: ignore[misc]  # twisted is not installed here
    """Trial's reporter, with a line for each test in a file."""

    def startTest(self, test: Any) -> None:
        """A test begins."""
        super().startTest(test)
        note(test.id(), "start", "started")

    def addSuccess(self, test: Any) -> None:
        """A test passed."""
        super().addSuccess(test)
        note(test.id(), "call", "passed")

    def addFailure(self, test: Any, failure: Any) -> None:
        """A test failed."""
        super().addFailure(test, failure)
        note(test.id(), "call", "failed", self.text_of(failure))

    def addError(self, test: Any, error: Any) -> None:
        """A test, or what it left behind, raised."""
        super().addError(test, error)
        note(test.id(), "call", "failed", self.text_of(error))

    def addSkip(self, test: Any, reason: object) -> None:
        """A test did not want to run."""
        super().addSkip(test, reason)
        note(test.id(), "call", "skipped", str(reason))

    def addExpectedFailure(self, test: Any, failure: Any, todo: object = None) -> None:
        """A test failed that is known to."""
        super().addExpectedFailure(test, failure, todo)
        note(test.id(), "call", "skipped", "expected")

    def addUnexpectedSuccess(self, test: Any, todo: object = None) -> None:
        """A test passed that was known to fail."""
        super().addUnexpectedSuccess(test, todo)
        note(test.id(), "call", "passed")

    def text_of(self, failure: Any) -> str:
        """The traceback."""
        return failure.getTraceback() if hasattr(failure, "getTraceback") else repr(failure)


@implementer(IPlugin, IReporter)
class _Plugin:
    """What trial looks for: a name for the command line, and where the class is."""

    name = "Outcomes"
    module = __name__
    description = "Notes the outcome of each test"
    longOpt = "outcomes"
    shortOpt = None
    klass = "OutcomeReporter"


outcomes = _Plugin()
