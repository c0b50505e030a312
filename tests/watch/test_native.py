"""Functions of C, where the watch is asked to name them."""

import hashlib
import os
import signal

import pytest
from heard import THRESHOLD_SECONDS, Heard

import offloop
from gates import run_program

pytestmark = pytest.mark.quick


def hash_until_told(heard):
    """Compute in C without the GIL until a stall has been told."""
    while not heard.found():
        hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 300_000)


def told_of(our_loop, function, **options):
    heard = Heard()
    with offloop.watch(THRESHOLD_SECONDS, heard, words=False, **options):
        our_loop.call_soon(function, heard)
        our_loop.call_soon(our_loop.stop)
        our_loop.run_forever()
        return heard.all_of(function.__name__)


def test_functions_of_c_are_named_innermost_first(our_loop):
    for stall in told_of(our_loop, hash_until_told, native=True):
        names = [entry.function for entry in stall.native]
        if "PKCS5_PBKDF2_HMAC" in names:
            break
        # The moment may be one between two calls.
        assert stall.cause != "native-without-gil" or not names, names
    else:
        raise AssertionError("no stall was told within the computation")
    assert "PKCS5_PBKDF2_HMAC" not in names[:1]
    assert not [name for name in names if "EvalFrame" in name]
    file = {entry.function: entry.filename for entry in stall.native}["PKCS5_PBKDF2_HMAC"]
    assert os.path.isabs(file)


def test_nothing_is_named_and_no_signal_taken_unless_it_is_asked_for(tmp_path):
    program = """
        import asyncio, hashlib, signal
        import offloop

        def handled():
            with open("/proc/self/status") as file:
                status = dict(line.split(":\\t", 1) for line in file.read().splitlines())
            # Those below are the C library's.
            return int(status["SigCgt"], 16) >> (signal.SIGRTMIN - 1)

        told = []
        before = handled()
        offloop.watch(0.02, told.append, words=False)
        assert handled() == before

        async def main():
            while not told:
                hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 300_000)

        offloop.run(main())
        offloop.watch.stop()
        assert not told[0].native
        offloop.watch(0.02, words=False, native=True)
        taken = handled() & ~before
        assert taken.bit_count() == 1, hex(taken)
        offloop.watch(0.02, words=False, native=True)
        assert handled() == before | taken
    """
    result = run_program(tmp_path, program)
    assert result.returncode == 0, result.stderr


def test_signals_of_the_program_are_left_to_it(our_loop):
    heard = []
    before = signal.signal(signal.SIGRTMAX, lambda number, _stack: heard.append(number))
    try:
        told_of(our_loop, hash_until_told, native=True)
        assert heard == []
        signal.raise_signal(signal.SIGRTMAX)
        assert heard == [signal.SIGRTMAX]
    finally:
        signal.signal(signal.SIGRTMAX, before)


def test_signals_that_the_program_takes_later_are_left_to_it(tmp_path):
    program = """
        import asyncio, hashlib, signal
        import offloop

        told, heard = [], []

        def block():
            count = len(told)
            while len(told) == count:
                hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 300_000)

        async def main():
            block()
            await asyncio.sleep(0)
            for number in range(signal.SIGRTMIN, signal.SIGRTMAX + 1):
                signal.signal(number, lambda *about: heard.append(about))
            block()
            await asyncio.sleep(0)
            signal.signal(signal.SIGRTMIN + 5, signal.SIG_DFL)
            block()
            await asyncio.sleep(0)

        offloop.watch(0.02, told.append, words=False, native=True)
        offloop.run(main())
        print(heard)
    """
    result = run_program(tmp_path, program)
    assert (result.returncode, result.stdout) == (0, "[]\n"), result.stderr


def test_signals_that_a_thread_holds_back_do_not_come(tmp_path):
    program = """
        import asyncio, hashlib, os, signal
        import offloop

        told = []
        every = set(range(signal.SIGRTMIN, signal.SIGRTMAX + 1))

        async def main():
            signal.pthread_sigmask(signal.SIG_BLOCK, every)
            while not told:
                hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 300_000)
            print(signal.sigpending() & every)

        offloop.watch(0.02, told.append, words=False, native=True)
        offloop.run(main())
    """
    result = run_program(tmp_path, program)
    assert (result.returncode, result.stdout) == (0, "set()\n"), result.stderr


def test_program_that_handles_all_signals_is_told(tmp_path):
    program = """
        import signal
        import offloop

        for number in range(signal.SIGRTMIN, signal.SIGRTMAX + 1):
            signal.signal(number, print)
        try:
            offloop.watch(native=True)
        except OSError as error:
            print(error)
    """
    result = run_program(tmp_path, program)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "the program handles all real-time signals\n"


def test_thread_that_waits_is_not_interrupted(tmp_path):
    program = """
        import asyncio, ctypes, os
        import offloop

        told = []
        read, write = os.pipe()
        ready = ctypes.CDLL(None, use_errno=True).poll

        class Wanted(ctypes.Structure):
            _fields_ = [("fd", ctypes.c_int), ("events", ctypes.c_short), ("found", ctypes.c_short)]

        def hear(stall):
            told.append(stall)
            os.write(write, b"x")

        async def main():
            # A signal would end this call with EINTR.
            found = ready(ctypes.byref(Wanted(read, 1, 0)), 1, 20_000)
            assert (found, ctypes.get_errno()) == (1, 0)

        offloop.watch(0.02, hear, words=False, native=True)
        offloop.run(main())
        assert not told[0].native
    """
    result = run_program(tmp_path, program)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("native", [1, None, "yes"])
def test_native_is_a_switch(native):
    with pytest.raises(TypeError, match="native must be"):
        offloop.watch(native=native)
