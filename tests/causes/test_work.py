"""A thread that computes is told from one that is kept from it, and by what."""

import ctypes
import gc
import hashlib
import os
import re
import subprocess
import sys
import threading

import pytest
from cause_tools import APART, UNCERTAIN, Subject, computes, started, told

from _offloop_worker import _offloop

pytestmark = pytest.mark.quick


def count(subject: Subject) -> None:
    """A loop of a few instructions."""
    number = 0
    while not subject.stop:
        number += 1


def count_up(subject: Subject) -> None:
    """A loop of the shortest kind that ends."""
    while not subject.stop:
        for _ in range(1_000_000):
            pass


def call_functions(subject: Subject) -> None:
    """Functions of Python that call each other."""

    def fibonacci(number: int) -> int:
        return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)

    while not subject.stop:
        fibonacci(15)


def call_short_functions(subject: Subject) -> None:
    """A loop of calls of C, each of which is short."""
    text = "a b c"
    while not subject.stop:
        text.split()


def generate(subject: Subject) -> None:
    """A generator that C goes through."""
    while not subject.stop:
        sum(number & 7 for number in range(100_000))


@pytest.mark.parametrize("work", [count, count_up, call_functions, call_short_functions, generate])
def test_python_code(work):
    with started(work) as subject:
        computes(subject, "python")


def test_a_loop_of_one_instruction():
    def spin(_subject: Subject) -> None:
        with pytest.raises(KeyboardInterrupt):
            while True:
                pass

    def end() -> None:
        interrupt = ctypes.py_object(KeyboardInterrupt)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(subject.ident), interrupt)

    with started(spin, end) as subject:
        computes(subject, "python")


def add_up(subject: Subject) -> None:
    """A loop in C."""
    while not subject.stop:
        sum(range(40_000_000))


def match_slowly(subject: Subject) -> None:
    """A regular expression that tries everything."""
    pattern, text = re.compile(r"(a|a?)+$"), "a" * 20 + "b"
    while not subject.stop:
        pattern.match(text)


def multiply(subject: Subject) -> None:
    """Long numbers."""
    number = 3**400_000
    while not subject.stop:
        number * number


@pytest.mark.parametrize("work", [add_up, match_slowly, multiply])
def test_c_code_with_the_gil(work):
    with started(work) as subject:
        computes(subject, "native")


def derive_keys(subject: Subject) -> None:
    """Many rounds of a hash."""
    while not subject.stop:
        hashlib.pbkdf2_hmac("sha256", b"secret", b"salt", 500_000)


def hash_much(subject: Subject) -> None:
    """One long text, of which no page is ever written."""
    text = bytes(1 << 30)
    while not subject.stop:
        hashlib.sha256(text)


@pytest.mark.parametrize("work", [derive_keys, hash_much])
def test_c_code_without_the_gil(work):
    with started(work) as subject:
        computes(subject, "native-without-gil")


def test_a_collection():
    def collect(subject: Subject) -> None:
        # Making them is Python's work, with short collections in between.
        gc.disable()
        circles = [[] for _ in range(400_000)]
        for circle in circles:
            circle.append(circle)
        gc.enable()
        while not subject.stop:
            gc.collect()

    with started(collect) as subject:
        computes(subject, "collection")


def hold(holder: Subject) -> None:
    """A call of a library that sleeps, and keeps the GIL."""
    sleep = ctypes.PyDLL(None).usleep
    while not holder.stop:
        sleep(400_000)


def test_another_thread_that_has_the_gil():
    with started(count) as subject, started(hold) as holder:
        computes(subject, "other-thread", holder.native_id)
        subject.stop = holder.stop = True


def test_two_threads_of_python():
    with started(count) as subject, started(count) as other:
        # They take turns of 5 ms (`sys.getswitchinterval`). In 7 ms one of them has the larger
        # part, now this one and now that one.
        readings = _offloop.sample_causes(subject.native_id, 0.007, 60)
        subject.stop = other.stop = True
    causes = [told(reading) for reading in readings]
    # It runs half of the time, and waits for the other one otherwise.
    right = {("python", None), ("other-thread", other.native_id)}
    assert set(causes) <= right | {(cause, None) for cause in UNCERTAIN}, readings
    assert right <= set(causes), readings


def test_a_thread_that_has_the_gil_and_sleeps():
    with started(hold) as holder:
        computes(holder, "sleep")


@pytest.mark.parametrize("work", [count, derive_keys])
def test_a_thread_that_is_starved(work):
    [cpu, *_] = os.sched_getaffinity(0)
    # As many as make it certain that the thread comes last.
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        for hog in hogs:
            os.sched_setaffinity(hog.pid, {cpu})
        with started(work) as subject:
            os.sched_setaffinity(subject.native_id, {cpu})
            os.setpriority(os.PRIO_PROCESS, subject.native_id, 19)
            readings = _offloop.sample_causes(subject.native_id, 0.05, 20)
            # It ends sooner with a processor of its own.
            os.sched_setaffinity(subject.native_id, os.sched_getaffinity(0))
            subject.stop = True
            for hog in hogs:
                hog.kill()
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    causes = [reading["cause"] for reading in readings]
    assert causes.count("starved") >= 10, readings
    assert set(causes[5:]) <= UNCERTAIN, readings


def test_threads_that_are_none():
    with started(lambda _: None) as subject:
        subject.join()
    for native_id in (subject.native_id, 0, 2**64 - 1):
        with pytest.raises(ProcessLookupError, match="no such thread"):
            _offloop.cause_of(native_id, APART)
    with pytest.raises(ValueError, match="negative"):
        _offloop.cause_of(threading.get_native_id(), -1.0)


def test_the_thread_that_asks():
    # It is awake at its own looks, and slept between them.
    assert _offloop.cause_of(threading.get_native_id(), APART)["cause"] in UNCERTAIN
