"""Stalls as events of structlog, and the request in each event."""

import asyncio
import contextvars
import sys

import pytest
import structlog
from http_served import THRESHOLD_SECONDS, Told, with_culprit

import offloop
from gates import PATIENCE_SECONDS
from offloop._serving import SERVING, Serving
from offloop.integrations.structlog import add_request, stall_facts, stall_logger


@pytest.fixture
def logged():
    """Events as structlog's last processor gets them."""
    events = []

    def keep(logger, method_name, event_dict):
        events.append((method_name, event_dict))
        raise structlog.DropEvent

    processors = [structlog.contextvars.merge_contextvars, add_request, keep]
    structlog.configure(processors=processors)
    yield events
    structlog.reset_defaults()


def blocked_by(run_on, callback):
    """Have a task block its loop until its stall is told, with a note and a bound variable."""
    told = Told()

    def both(stall):
        callback(stall)
        told(stall)

    async def task():
        SERVING.set(Serving("GET", "/items"))
        structlog.contextvars.bind_contextvars(customer="ada")
        await asyncio.sleep(0)
        told.found("task").wait(PATIENCE_SECONDS)

    async def main():
        await asyncio.create_task(task())

    with offloop.watch(THRESHOLD_SECONDS, both, words=False, stalls_per_minute=1_000):
        run_on(main())
        return told.wait("task", is_over=True)


def test_stall_is_logged_while_it_lasts_and_when_it_is_over(run_on, logged):
    stall = with_culprit(lambda: blocked_by(run_on, stall_logger()))
    found, over = (event for _, event in logged if event["stall"] == stall.number)
    assert (found["event"], over["event"]) == ("event_loop_blocked", "event_loop_was_blocked")
    assert {name for name, _ in logged} == {"warning"}
    assert ("duration" in found, over["duration"]) == (False, stall.duration)
    assert over["function"].endswith("task")
    assert (over["file"], over["request"]) == (__file__, "GET /items")
    assert over["cause"] in list(offloop.StallCause)


def test_stall_has_what_was_bound_for_its_task(run_on, logged):
    stall = blocked_by(run_on, stall_logger())
    over = next(event for _, event in reversed(logged) if event["stall"] == stall.number)
    assert over["customer"] == "ada"


def test_other_logger_is_used(run_on, logged):
    stall = blocked_by(run_on, stall_logger(structlog.get_logger().bind(service="shop")))
    assert {event["service"] for _, event in logged if event["stall"] == stall.number} == {"shop"}


def test_failing_logger_fails_no_program(run_on, monkeypatch):
    raised = []

    class Failing:
        def warning(self, event, **facts):
            raise LookupError(event)

    monkeypatch.setattr(sys, "unraisablehook", raised.append)
    log = stall_logger(Failing())
    told = Told()

    def both(stall):
        told(stall)
        log(stall)

    async def main():
        told.wait("main")

    with offloop.watch(THRESHOLD_SECONDS, both, words=False):
        run_on(main())
        told.wait("main", is_over=True)
    assert {str(one.exc_value) for one in raised} <= {
        "event_loop_blocked",
        "event_loop_was_blocked",
    }
    assert raised


def test_unknown_facts_are_left_out():
    stall = offloop.Stall.of(
        dict.fromkeys(offloop.Stall.__dataclass_fields__)
        | {"cause": "sleep", "stack": [], "native": [], "thread": "MainThread", "number": 3}
    )
    assert stall_facts(stall) == {"cause": "sleep", "thread": "MainThread", "stall": 3}


@pytest.mark.parametrize(
    ("serving", "event", "request_of_event"),
    [
        (Serving("GET", "/a"), {}, "GET /a"),
        (Serving("GET", "/a"), {"request": "own"}, "own"),
        (Serving(None, None), {}, None),
        (None, {}, None),
    ],
)
def test_request_is_added_to_events(serving, event, request_of_event):
    context = contextvars.copy_context()
    context.run(SERVING.set, serving)
    assert context.run(add_request, None, "info", dict(event)).get("request") == request_of_event
