"""The table from the runtime's errors to exceptions: each variant has a row, a class, a text."""

import inspect
import re
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

import offloop
from _offloop_worker._offloop import error_samples
from offloop import _outcomes

pytestmark = pytest.mark.quick

SOURCES = Path(__file__).parents[1] / "crates" / "offloop" / "src"
ENUMS = (
    "SubmitError",
    "LaneError",
    "OwnerError",
    "ArenaError",
    "Fault",
    "WorkerFault",
    "Violation",
)

NO_ERRORS = {"Outcome::Returned", "Outcome::Cancelled"}
TOLD_AS_ITS_VARIANTS = {"WorkerFault::Violation"}

NEW_POOL = "the lane belongs to the process that this one was forked from: make a new pool"
DENIED = "permission denied"

TABLE = {
    "SubmitError::Full": (offloop.QueueFull, "the queue is full: 8 tasks wait, limit 8"),
    "SubmitError::FullBytes": (
        offloop.QueueFull,
        "the queue is full: 90 bytes are held, 20 more exceed the limit 100",
    ),
    "SubmitError::TooLarge": (
        offloop.QueueFull,
        "a task of 200 bytes exceeds the queue's limit of 100 bytes",
    ),
    "SubmitError::Closed": (RuntimeError, "cannot schedule new futures after shutdown"),
    "SubmitError::Broken": (BrokenProcessPool, "its workers were terminated"),
    "SubmitError::Forked": (RuntimeError, f"{NEW_POOL} in this process"),
    "LaneError::Forked": (OSError, "the process that this one was forked from"),
    "LaneError::Stopped": (OSError, "the runtime has stopped"),
    "LaneError::System": (OSError, f"a descriptor or a thread: {DENIED}"),
    "OwnerError::TooMany": (RuntimeError, "64 event loops use the runtime at once, limit 64"),
    "OwnerError::System": (RuntimeError, f"the system refused a descriptor: {DENIED}"),
    "ArenaError::Full": (offloop.QueueFull, "no room for 3 bytes in shared memory: 1 of 2 bytes"),
    "ArenaError::System": (MemoryError, "cannot create shared memory of 3 bytes"),
    "Fault::StartZygote": (BrokenProcessPool, f"program cannot be started: {DENIED}"),
    "Fault::PrepareWorker": (BrokenProcessPool, f"a worker cannot be prepared: {DENIED}"),
    "Fault::RequestFork": (BrokenProcessPool, "zygote 7 cannot be asked for a worker"),
    "Fault::Fork": (BrokenProcessPool, f"the zygote cannot fork: {DENIED}"),
    "Fault::SetupEnded": (BrokenProcessPool, "program ended with exit code 3 in its setup"),
    "Fault::SetupFailed": (BrokenProcessPool, "the setup raised"),
    "Fault::BeginFailed": (BrokenProcessPool, "the initializer raised"),
    "Fault::WorkerEnded": (
        BrokenProcessPool,
        "worker 7 was ended by signal 9 before it took a call\nlast words",
    ),
    "Fault::GivenUp": (BrokenProcessPool, "its workers could not be kept alive"),
    "Fault::Terminated": (BrokenProcessPool, "its workers were terminated"),
    "Fault::SupervisorWait": (BrokenProcessPool, f"the supervisor cannot wait: {DENIED}"),
    "Fault::SupervisorPanic": (BrokenProcessPool, "the supervisor panicked: a bug"),
    "WorkerFault::NotReady": (offloop.WorkerCrashed, "(was not ready within 50ms)"),
    "WorkerFault::ClosedChannel": (offloop.WorkerCrashed, "(closed its channel)"),
    "Violation::Ring": (offloop.WorkerCrashed, "ring is corrupt"),
    "Violation::Frame": (offloop.WorkerCrashed, "frame of unknown kind 99"),
    "Violation::NotHeld": (offloop.WorkerCrashed, "released call 5, not held"),
    "Violation::NotRunning": (offloop.WorkerCrashed, "call 5 is not the one it runs"),
    "Violation::NoStream": (offloop.WorkerCrashed, "an item of call 5, which is no stream"),
    "Violation::Item": (offloop.WorkerCrashed, "item 9 came where item 2 was due"),
    "Violation::Status": (offloop.WorkerCrashed, "(broke the protocol: unknown status 9)"),
    "Violation::NoChunk": (offloop.WorkerCrashed, "chunk 1 was never passed"),
    "Violation::NoBlock": (offloop.WorkerCrashed, "in its arena"),
    "Violation::Said": (offloop.WorkerCrashed, "said hello after its hello"),
    "Violation::Socket": (offloop.WorkerCrashed, f"its socket: {DENIED}"),
    "Outcome::Expired": (offloop.DeadlineExceeded, "did not end within its timeout"),
    "Outcome::Lost": (offloop.WorkerCrashed, "was ended by SIGKILL while it ran this call"),
    "Outcome::Dropped": (offloop.TaskDropped, "the queue was full"),
    "Outcome::Broken": (BrokenProcessPool, "its workers were terminated"),
}
"""What a program gets for each error of the runtime: its very class, and a part of its text."""


def variants(enum):
    """The names of an enum's variants, as its source has them."""
    declared = re.compile(rf"^pub enum {enum} {{\n(.*?)^}}", re.MULTILINE | re.DOTALL)
    found = [declared.search(path.read_text()) for path in SOURCES.rglob("*.rs")]
    (body,) = [match[1] for match in found if match]
    return {f"{enum}::{name}" for name in re.findall(r"^    ([A-Z]\w*)", body, re.MULTILINE)}


def test_every_variant_of_the_runtimes_errors_has_a_row():
    declared = set().union(*map(variants, (*ENUMS, "Outcome")))
    assert set(TABLE) == declared - NO_ERRORS - TOLD_AS_ITS_VARIANTS
    assert sorted(TABLE) == sorted(name for name, _ in error_samples())


def test_every_error_has_its_class_and_its_text():
    wrong = {}
    for name, error in error_samples():
        expected, text = TABLE[name]
        if type(error) is not expected or text not in str(error):
            wrong[name] = error
    assert wrong == {}


def test_a_fault_of_a_fleet_says_that_no_worker_can_be_started():
    told = {name: str(error) for name, error in error_samples() if name.startswith("Fault::")}
    start = "no worker of this pool can be started: "
    assert {name for name, text in told.items() if not text.startswith(start)} == set()


def test_a_lost_call_keeps_what_is_known_of_its_worker():
    errors = dict(error_samples())
    error = errors["WorkerFault::NotReady"]
    assert (error.pid, error.signal, error.exit_code) == (7, 9, None)
    assert (error.peak_memory_bytes, error.stderr_tail) == (3 << 20, "last words")
    assert error.may_have_started
    text = str(error)
    assert text.startswith("worker process 7 was ended by SIGKILL while it ran this call (")
    assert ", at attempt 2; it held at most 3 MiB\n" in text
    assert text.endswith("the end of its standard error:\n  last words")


def test_a_crash_crosses_by_the_names_of_its_parts():
    parameters = inspect.signature(_outcomes.crashed).parameters.values()
    assert {parameter.kind for parameter in parameters} == {inspect.Parameter.KEYWORD_ONLY}
