"""The hooks of a run that is measured.

Each test has three phases, as pytest has it: set-up, call, teardown. What is found in one is raised
at its end as a failure, so that marks, retries and reports see a failed test like any other one. A
phase that has failed already gets a section in its report. Nothing is raised inside the test.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

from _offloop_pytest import asked

if TYPE_CHECKING:
    from offloop._gate import Finding, Gate
    from offloop._gate.door import Door

__all__ = ["Gated"]

Wrapper = Generator[None, object, object]


class Gated:
    """Measures the tests of one process; in a run that is divided, one of its processes."""

    def __init__(self, config: pytest.Config, asked_for: asked.Asked) -> None:
        from offloop._gate import Gate, Record, Verdict, read_ratchet
        from offloop._gate.door import Door

        self._config = config
        self._asked = asked_for
        try:
            known = read_ratchet(asked_for.ratchet, missing_ok=asked_for.writes_ratchet)
        except ValueError as error:
            raise pytest.UsageError(str(error)) from None
        self._verdict = Verdict(config.rootpath, known, forgives=asked_for.writes_ratchet)
        self._known = known
        self._record = Record()
        self._make_gate, self._make_door = Gate, Door
        self._gate: Gate | None = None
        self._limits: asked.Limits | None = None
        self._default: asked.Limits | None = None
        self._marked: dict[str, asked.Limits | None] = {}
        self._threshold: float | None = None
        self._is_partial = config.args_source is pytest.Config.ArgsSource.ARGS
        self._begun = 0

    # What is measured.

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Find the shortest time that any test is held to."""
        default = self._asked.max_stall_seconds
        if default is not None:
            self._default = asked.Limits(default, self._asked.allow)
        for item in items:
            if item.get_closest_marker("offloop") is not None:
                self._marked[item.nodeid] = asked.of_item(item, self._asked)
        marked = [each.max_stall_seconds for each in self._marked.values() if each is not None]
        self._threshold = min([*marked, *([] if default is None else [default])], default=None)

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Not all tests run."""
        self._is_partial = self._is_partial or bool(items)

    def measures(self, item: pytest.Item) -> bool:
        """Whether a test is measured."""
        return self._limits_of(item) is not None

    def _limits_of(self, item: pytest.Item) -> asked.Limits | None:
        return self._marked.get(item.nodeid, self._default)

    def door(self) -> Door:
        """What a test gets that asks."""
        assert self._gate is not None, "a test that is measured has begun"
        return self._make_door(self._gate)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Wrapper:
        """Measure the set-up."""
        self._limits = self._limits_of(item)
        if self._limits is None:
            if self._gate is not None:
                self._gate.rest()
            return (yield)
        if self._gate is None:
            self._gate = self._make_gate()
        self._gate.watch(self._threshold or self._limits.max_stall_seconds)
        self._record.tests += 1
        self._begun = self._gate.loops_begun
        return (yield from self._phase(item, "setup"))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Wrapper:
        """Measure the test."""
        return (yield from self._phase(item, "call"))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Wrapper:
        """Measure the teardown."""
        return (yield from self._phase(item, "teardown"))

    def pytest_enter_pdb(self) -> None:
        """A person looks at the program."""
        if self._gate is not None:
            self._gate.debug()

    def _phase(self, item: pytest.Item, when: str) -> Wrapper:
        gate, limits = self._gate, self._limits
        if gate is None or limits is None:
            return (yield)
        gate.begin(item.nodeid, when, limits.max_stall_seconds, limits.allow)
        try:
            result = yield
        except BaseException:
            self._end(gate, item, when, has_failed=True)
            raise
        self._end(gate, item, when, has_failed=False)
        return result

    def _end(self, gate: Gate, item: pytest.Item, when: str, *, has_failed: bool) -> None:
        is_plain = gate.end()
        if when == "teardown" and not self._has_loop(gate, item):
            is_plain = False
            gate.excuse("no asyncio event loop ran")
        if is_plain:
            return
        found, reasons = gate.take()
        for reason in reasons:
            self._record.unmeasured(item.nodeid, when, reason)
            item.user_properties.append(("offloop_unmeasured", f"{when}: {reason}"))
        failures = [each for each in found if not self._verdict.is_known(each)]
        for each in found:
            self._record.add(self._verdict.fields(each, is_late=False))
        if not failures:
            return
        text = "\n\n".join(each.words for each in failures)
        for each in failures:
            item.user_properties.append((f"offloop_{each.kind}", each.summary))
        if has_failed:
            item.add_report_section(when, "offloop", text)
        else:
            raise _failure(failures)

    def _has_loop(self, gate: Gate, item: pytest.Item) -> bool:
        if gate.loops_begun != self._begun:
            return True
        return not inspect.iscoroutinefunction(getattr(item, "obj", None))

    # The end of the run.

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Stop, and say what came too late for its test."""
        if self._gate is not None:
            for late in self._gate.stop():
                self._record.add(self._verdict.fields(late, is_late=True))
        self._is_partial = self._is_partial or bool(session.shouldstop or session.shouldfail)
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output["offloop"] = self._record.to_fields()
            return
        if self._record.late and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if self._asked.json is not None:
            self._record.write_json(self._asked.json, self._asked.max_stall_seconds, self._known)
        if self._asked.writes_ratchet and self._asked.ratchet is not None:
            self._record.write_ratchet(
                self._asked.ratchet, self._known if self._is_partial else frozenset()
            )

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """A process of a divided run has ended: take what it has found."""
        fields = getattr(node, "workeroutput", {}).get("offloop")
        if fields is not None:
            self._record.take(fields)
        else:
            self._record.unmeasured("", "", f"process {node.gateway.id} has ended without a word")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what was found, what was not measured, and what has become better."""
        lines = self._record.lines(self._known, is_partial=self._is_partial)
        if lines:
            terminalreporter.section("offloop")
            for line in lines:
                terminalreporter.write_line(line)


def _failure(found: list[Finding]) -> BaseException:
    """What fails a phase: its text is all that pytest shows."""
    blocks = "\n\n".join(each.words for each in found)
    return pytest.fail.Exception(blocks, pytrace=False)
