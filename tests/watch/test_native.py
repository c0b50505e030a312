"""Functions of C, where the watch is asked to name them."""

import hashlib
import os

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
            # Real-time signals are the C library's, too.
            return int(status["SigCgt"], 16) & ((1 << 31) - 1)

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
        assert taken == 1 << signal.SIGURG - 1, hex(taken)
        offloop.watch(0.02, words=False, native=True)
        assert handled() == before | taken
    """
    result = run_program(tmp_path, program)
    assert result.returncode == 0, result.stderr


def test_signals_of_the_program_are_left_to_it(tmp_path):
    program = """
        import asyncio, hashlib, signal
        import offloop

        told, heard = [], []

        async def main():
            while not told:
                hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 300_000)

        signal.signal(signal.SIGURG, lambda number, _stack: heard.append(number))
        offloop.watch(0.02, told.append, words=False, native=True)
        offloop.run(main())
        print(heard)
        signal.raise_signal(signal.SIGURG)
        print(heard == [signal.SIGURG])
    """
    result = run_program(tmp_path, program)
    assert (result.returncode, result.stdout) == (0, "[]\nTrue\n"), result.stderr


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
            for number in (signal.SIGURG, signal.SIGWINCH):
                signal.signal(number, lambda *about: heard.append(about))
            block()
            await asyncio.sleep(0)
            signal.signal(signal.SIGURG, signal.SIG_DFL)
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
        every = {signal.SIGURG, signal.SIGWINCH}

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

        for number in (signal.SIGURG, signal.SIGWINCH):
            signal.signal(number, print)
        try:
            offloop.watch(native=True)
        except OSError as error:
            print(error)
    """
    result = run_program(tmp_path, program)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "the program handles SIGURG and SIGWINCH\n"


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


def test_names_are_those_of_the_file_that_is_loaded_now(tmp_path):
    program = """
        import asyncio, ctypes, os, subprocess, sys
        import _ctypes
        import offloop

        def build(name):
            text = f"long {name}(long n) {{ volatile long s = 0; while (n--) s += n; return s; }}"
            with open("new.c", "w") as file:
                file.write(text)
            subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", "new.so", "new.c"], check=True)
            os.rename("new.so", "plugin.so")

        told = []

        async def names_within(name):
            build(name)
            plugin = ctypes.CDLL("./plugin.so")
            function = getattr(plugin, name)
            function.argtypes = [ctypes.c_long]
            names = set()
            while not names:
                await asyncio.sleep(0)
                del told[:]
                # The end of the callback before may be told within this one.
                while not (found := [stall for stall in told if stall.duration is None]):
                    function(10_000_000)
                names = {entry.function for stall in found for entry in stall.native}
            _ctypes.dlclose(plugin._handle)
            return names

        async def main():
            for name in ("first", "second"):
                names = await names_within(name)
                print(name in names, {"first", "second"} & names)

        os.chdir(sys.argv[1])
        offloop.watch(0.02, told.append, words=False, native=True, stalls_per_minute=1_000)
        offloop.run(main())
    """
    result = run_program(tmp_path, program, str(tmp_path))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "True {'first'}\nTrue {'second'}\n"
