"""The hooks of a run that is measured.

Each test has three phases, as pytest has it: set-up, call, teardown. What is found in one is raised
at its end as a failure, so that marks, retries and reports see a failed test like any other one. A
phase that has failed already gets a section in its report. Nothing is raised inside the test.

Invariant: the gate's own errors keep no phase from running. They fail it once it is over.
"""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from _offloop_pytest import asked, telling
from _offloop_pytest.extent import Extent, name_of

if TYPE_CHECKING:
    from offloop._gate import Gate
    from offloop._gate.door import Door

__all__ = ["Gated", "raise_if_refused"]

Wrapper = Generator[None, object, object]

OUTPUT, REFUSED = "offloop", "offloop_refused"
"""What a process of a divided run says at its end: what it found; why it ran nothing."""


class Gated:
    """Measures the tests of one process; in a run that is divided, one of its processes."""

    def __init__(self, config: pytest.Config, asked_for: asked.Asked, *, is_early: bool) -> None:
        from offloop._gate import Gate, Record, Verdict
        from offloop._gate.door import Door
        from offloop._gate.ratchet import Ratchet

        self._config = config
        self._asked = asked_for
        writes = asked_for.writes_ratchet
        if not hasattr(config, "workerinput"):
            _refuse_unwritable(asked_for)
        try:
            self._ratchet = Ratchet(asked_for.ratchet, writes=writes)
        except ValueError as error:
            raise pytest.UsageError(str(error)) from None
        self._verdict = Verdict(config.rootpath, self._ratchet.known, forgives=writes)
        self._record = Record()
        self._make_gate, self._make_door = Gate, Door
        self._gate: Gate | None = None
        self._default: asked.Limits | None = None
        if asked_for.max_stall_seconds is not None:
            self._default = asked.Limits(asked_for.max_stall_seconds, asked_for.allow)
        self._limits: asked.Limits | None = None
        self._marked: dict[str, tuple[int, asked.Limits | None]] = {}
        """Tests that have marks: how many, and what they are held to."""
        self._threshold: float | None = None
        self._begun = 0
        self._has_run = False
        """Whether the call of the current test was not skipped."""
        self._errors: list[str] = []
        """What is wrong with the run itself."""
        self._extent = Extent(config, hears_all=is_early)
        config.pluginmanager.register(self._extent, "offloop-extent")

    # What is measured.

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Find the shortest time that any test is held to."""
        try:
            for item in items:
                self._read_marks(item)
        except pytest.UsageError as error:
            output = getattr(self._config, "workeroutput", None)
            if output is None:
                raise
            # From here it would reach a person as an error of pytest-xdist.
            output[REFUSED] = str(error)
            items.clear()
        limits = [self._default, *(limits for _, limits in self._marked.values())]
        seconds = [each.max_stall_seconds for each in limits if each is not None]
        self._threshold = min(seconds, default=None)

    def _read_marks(self, item: pytest.Item) -> None:
        count = sum(1 for _ in item.iter_markers("offloop"))
        if count != self._marked.get(item.nodeid, (0,))[0]:
            self._marked[item.nodeid] = count, asked.of_item(item, self._asked)

    def measures(self, item: pytest.Item) -> bool:
        """Whether a test is measured."""
        return self._limits_of(item) is not None

    def _limits_of(self, item: pytest.Item) -> asked.Limits | None:
        return self._marked[item.nodeid][1] if item.nodeid in self._marked else self._default

    def door(self) -> Door:
        """What a test gets that asks."""
        assert self._gate is not None, "a test that is measured has begun"
        return self._make_door(self._gate)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Wrapper:
        """Measure the set-up."""
        self._has_run = False
        return (yield from self._phase(item, "setup", self._begin_test))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Wrapper:
        """Measure the test."""
        try:
            result = yield from self._phase(item, "call", self._begin_call)
        except BaseException as error:
            self._has_run = not isinstance(error, _skips())
            raise
        self._has_run = True
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Wrapper:
        """Measure the teardown."""
        return (yield from self._phase(item, "teardown", self._begin_phase))

    def pytest_enter_pdb(self) -> None:
        """A person looks at the program."""
        if self._gate is not None:
            self._gate.debug()

    # Phases.

    def _phase(
        self, item: pytest.Item, when: str, begin: Callable[[pytest.Item, str], bool]
    ) -> Wrapper:
        is_measured, error = False, ""
        try:
            is_measured = begin(item, when)
        except pytest.UsageError as refused:
            error = f"offloop: {refused}"
        except Exception:
            error = _own_error()
        try:
            result = yield
        except BaseException:
            text = error or (self._found(item, when) if is_measured else "")
            if text:
                item.add_report_section(when, telling.SECTION, text)
            raise
        text = error or (self._found(item, when) if is_measured else "")
        if text:
            raise telling.failure_of(text)
        return result

    def _begin_test(self, item: pytest.Item, when: str) -> bool:
        """A test begins, and its set-up; whether it is measured."""
        telling.forget(item)
        self._limits = self._limits_of(item)
        if self._limits is None:
            if self._gate is not None:
                self._gate.rest()
            return False
        self._watch(self._limits)
        return self._begin_phase(item, when)

    def _begin_call(self, item: pytest.Item, when: str) -> bool:
        """A call begins, perhaps with marks that a fixture has added."""
        before = self._limits
        try:
            self._read_marks(item)
        except pytest.UsageError:
            self._leave_alone(item, when)
            raise
        self._limits = self._limits_of(item)
        if self._limits is None and before is not None:
            self._leave_alone(item, when)
            return False
        if self._limits is not None and self._limits != before:
            self._watch(self._limits, is_first=before is None)
        return self._begin_phase(item, when)

    def _leave_alone(self, item: pytest.Item, when: str) -> None:
        """What begins from here on is no part of the set-up, and nothing is said of it."""
        if self._gate is not None:
            self._gate.begin(name_of(item.nodeid), when, float("inf"), frozenset(asked.KINDS))

    def _watch(self, limits: asked.Limits, *, is_first: bool = True) -> None:
        if self._gate is None:
            self._gate = self._make_gate()
        self._threshold = min(self._threshold or limits.max_stall_seconds, limits.max_stall_seconds)
        self._gate.watch(self._threshold)
        if is_first:
            self._record.tests += 1
            self._begun = self._gate.loops_begun

    def _begin_phase(self, item: pytest.Item, when: str) -> bool:
        gate, limits = self._gate, self._limits
        if gate is None or limits is None:
            return False
        gate.begin(name_of(item.nodeid), when, limits.max_stall_seconds, limits.allow)
        return True

    def _found(self, item: pytest.Item, when: str) -> str:
        """What was found in a phase that is over, in words; or how the gate itself has failed."""
        try:
            return self._end(item, when)
        except Exception:
            text = _own_error()
        try:
            if self._gate is not None:
                # What is left of this phase is not to be laid to the next one.
                self._gate.take()
        except Exception:
            text += f"\n{_own_error()}"
        return text

    def _end(self, item: pytest.Item, when: str) -> str:
        gate = self._gate
        assert gate is not None, "a phase that is measured has begun"
        is_plain = gate.end()
        if when == "teardown" and self._has_run and not self._has_loop(gate, item):
            is_plain = False
            gate.excuse("no asyncio event loop ran")
        if is_plain:
            return ""
        found, reasons = gate.take()
        for reason in reasons:
            self._record.unmeasured(name_of(item.nodeid), when, reason)
            item.user_properties.append(("offloop_unmeasured", f"{when}: {reason}"))
        failures = [each for each in found if not self._verdict.is_known(each)]
        for each in found:
            self._record.add(self._verdict.fields(each, is_late=False))
        groups = telling.folded(failures)
        item.user_properties.extend(telling.properties_of(groups))
        return telling.text_of(groups)

    def _has_loop(self, gate: Gate, item: pytest.Item) -> bool:
        if gate.loops_begun != self._begun:
            return True
        return not inspect.iscoroutinefunction(getattr(item, "obj", None))

    # The end of the run.

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Stop, and say what came too late for its test."""
        try:
            for late in [] if self._gate is None else self._gate.stop():
                self._record.add(self._verdict.fields(late, is_late=True))
        except Exception:
            self._errors.append(_own_error())
        try:
            self._extent.close(session, looks_for_files=self._asked.ratchet is not None)
        except Exception:
            self._errors.append(_own_error())
            self._extent.lacks("the gate itself has failed")
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            partial = self._extent.partial
            output[OUTPUT] = {
                **self._record.to_fields(),
                "partial": partial,
                "errors": self._errors,
            }
            return
        self._write()
        if (self._record.late or self._errors) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _write(self) -> None:
        """Write the files that are asked for; a failure to do so loses nothing else."""
        seen, partial = self._record.stalls(), self._extent.partial
        try:
            self._ratchet.settle(seen, partial, self._extent.is_left_out)
        except OSError as error:
            self._errors.append(f"{self._asked.ratchet}: was not written: {error.strerror}")
        if self._asked.json is None:
            return
        limit, unseen = self._asked.max_stall_seconds, self._ratchet.unseen(seen)
        partial = None if self._asked.ratchet is None else partial
        try:
            self._record.write_json(self._asked.json, limit, unseen, partial)
        except OSError as error:
            self._errors.append(f"{self._asked.json}: was not written: {error.strerror}")

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """A process of a divided run has ended: take what it has found."""
        raise_if_refused(node)
        fields = getattr(node, "workeroutput", {}).get(OUTPUT)
        if fields is None:
            without = f"process {node.gateway.id} has ended without a word"
            self._record.unmeasured("", "", without)
            self._extent.lacks(without)
            return
        self._record.take(fields)
        self._errors += fields["errors"]
        if fields["partial"]:
            self._extent.lacks(fields["partial"])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what was found, what was not measured, and what has become better."""
        lines = self._record.lines(writes_ratchet=self._asked.writes_ratchet)
        lines += [*self._ratchet.lines(), *self._errors]
        if lines:
            terminalreporter.section("offloop")
            for line in lines:
                terminalreporter.write_line(line)


def raise_if_refused(node: Any) -> None:
    """Refuse what a process of a divided run was to refuse."""
    refused = getattr(node, "workeroutput", {}).get(REFUSED)
    if refused is not None:
        raise pytest.UsageError(refused)


def _skips() -> tuple[type[BaseException], ...]:
    """What a test raises that skips itself."""
    unittest = sys.modules.get("unittest")
    return pytest.skip.Exception, *(() if unittest is None else (unittest.SkipTest,))


def _own_error() -> str:
    """The error that is being handled, as one of the gate's."""
    heading = "offloop: the gate itself has failed here, which is no fault of this test"
    return f"{heading}\n{traceback.format_exc().rstrip()}"


def _refuse_unwritable(asked_for: asked.Asked) -> None:
    """Say so before the tests run, not after."""
    if asked_for.json is not None:
        _refuse(asked_for.json, is_replaced=False)
    if asked_for.ratchet is not None and asked_for.writes_ratchet:
        _refuse(asked_for.ratchet, is_replaced=True)


def _refuse(path: Path, *, is_replaced: bool) -> None:
    folder = path.resolve().parent
    if not folder.is_dir():
        raise pytest.UsageError(f"{path}: cannot be written: {folder} is no folder")
    if path.is_dir():
        raise pytest.UsageError(f"{path}: cannot be written: it is a folder")
    if is_replaced and path.exists() and not path.is_file():
        raise pytest.UsageError(f"{path}: cannot be written: it is no file")
    written = folder if is_replaced or not path.exists() else path
    if not os.access(written, os.W_OK):
        raise pytest.UsageError(f"{path}: cannot be written: {written} is not to be written to")
