"""Stalls as events of Sentry, by the real SDK with a transport of the test's own."""

import asyncio

import pytest
import sentry_sdk
from http_served import THRESHOLD_SECONDS, Told, with_culprit
from sentry_sdk.transport import Transport

import offloop
from gates import PATIENCE_SECONDS
from offloop._serving import SERVING, Serving
from offloop.integrations.sentry import stall_event, stall_reporter


class Kept(Transport):
    """Keeps what is to be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict] = []

    def capture_envelope(self, envelope):
        self.events += [item.get_event() for item in envelope.items if item.get_event()]


@pytest.fixture
def kept():
    """Events that Sentry was to get."""
    transport = Kept()
    sentry_sdk.init(dsn="https://key@localhost/1", transport=transport, default_integrations=False)
    yield transport.events
    sentry_sdk.get_client().close(timeout=0)
    sentry_sdk.init(default_integrations=False)


def blocked(run_on, **options):
    """Have a task of a request block its loop until its stall is told."""
    told = Told()
    report = stall_reporter(**options)

    def both(stall):
        report(stall)
        told(stall)

    async def task():
        with sentry_sdk.isolation_scope():
            sentry_sdk.set_user({"id": "ada"})
            sentry_sdk.set_tag("shop", "north")
            SERVING.set(Serving("GET", "/items"))
            await asyncio.sleep(0)
            told.found("task").wait(PATIENCE_SECONDS)

    async def main():
        await asyncio.create_task(task())

    with offloop.watch(THRESHOLD_SECONDS, both, words=False, stalls_per_minute=1_000):
        run_on(main())
        return told.wait("task", is_over=True)


def of(stall, events):
    """The events of one stall."""
    return [event for event in events if event["contexts"]["stall"]["number"] == stall.number]


def test_stall_is_one_event_with_its_stack(run_on, kept):
    stall = with_culprit(lambda: blocked(run_on))
    [event] = of(stall, kept)
    [exception] = event["exception"]["values"]
    assert (event["level"], exception["type"]) == ("warning", "EventLoopBlocked")
    assert f"was blocked for {stall.duration * 1000:.0f} ms by {__file__}:" in exception["value"]
    entries = exception["stacktrace"]["frames"]
    assert [entry["function"] for entry in entries] == [
        entry.function for entry in reversed(stall.stack)
    ]
    [culprit] = [entry for entry in entries if entry["function"] == stall.culprit.function]
    assert (culprit["abs_path"], culprit["lineno"]) == (__file__, stall.culprit.lineno)
    assert culprit["context_line"].strip() == 'told.found("task").wait(PATIENCE_SECONDS)'
    assert (len(culprit["pre_context"]), len(culprit["post_context"])) == (5, 5)
    assert event["contexts"]["stall"]["duration"] == stall.duration


def test_event_has_what_is_known_of_the_task(run_on, kept):
    [event] = of(blocked(run_on), kept)
    assert event["transaction"] == "GET /items"
    assert event["user"] == {"id": "ada"}
    assert event["tags"]["shop"] == "north"
    assert event["tags"]["offloop.cause"] in list(offloop.StallCause)


def test_stalls_of_one_culprit_are_one_issue(run_on, kept):
    stalls = [with_culprit(lambda: blocked(run_on)) for _ in range(2)]
    first, second = (of(stall, kept)[0] for stall in stalls)
    assert first["fingerprint"] == second["fingerprint"]
    assert first["fingerprint"][:2] == ["offloop-stall", __file__]
    assert first["event_id"] != second["event_id"]


def test_stall_is_sent_while_it_lasts_if_that_is_wanted(run_on, kept):
    stall = blocked(run_on, at_once=True)
    [event] = of(stall, kept)
    assert "duration" not in event["contexts"]["stall"]
    assert event["exception"]["values"][0]["value"].startswith("the event loop is blocked by ")


def test_nothing_is_sent_without_sentry(run_on):
    assert blocked(run_on).duration >= THRESHOLD_SECONDS


def test_event_of_a_stall_of_which_nothing_is_known():
    fields = dict.fromkeys(offloop.Stall.__dataclass_fields__)
    fields |= {"cause": "starved", "stack": [], "native": [], "thread": "", "number": 1}
    event = stall_event(offloop.Stall.of({**fields}))
    assert event["fingerprint"] == ["offloop-stall", "", "", "starved"]
    found = event["exception"]["values"][0]["value"]
    assert found == "the event loop is blocked by no code that is known (cause: starved)"
    assert "transaction" not in event
    event = stall_event(offloop.Stall.of({**fields, "duration": 5.119, "detail": "/data/x"}))
    found = event["exception"]["values"][0]["value"]
    assert found.startswith("the event loop was blocked for 5119 ms by no code that is known")
    assert found.endswith("(cause: starved, /data/x)")


def test_event_of_a_stall_of_which_the_callback_is_known():
    fields = dict.fromkeys(offloop.Stall.__dataclass_fields__)
    fields |= {"cause": "callbacks", "stack": [], "native": [], "thread": "", "number": 1}
    event = stall_event(offloop.Stall.of({**fields, "callback": "serve", "duration": 0.2}))
    assert event["fingerprint"] == ["offloop-stall", "", "serve", "callbacks"]
    found = event["exception"]["values"][0]["value"]
    assert found == "the event loop was blocked for 200 ms by serve (callbacks)"


def test_wrong_arguments_of_the_reporter_are_refused():
    with pytest.raises(TypeError, match="at_once must be True or False, not 1"):
        stall_reporter(at_once=1)
