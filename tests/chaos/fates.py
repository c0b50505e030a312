"""What can become of a task of the chaos tests. Light to import: killed workers start often."""

import asyncio
import ctypes
import os
import time


def log_start(path: str, number: int) -> None:
    """Append the task's number, in one write, so that starts can be counted."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{number}\n".encode())
    os.close(descriptor)


def answer(path, number):
    """Return the number."""
    log_start(path, number)
    return number


def answer_late(path, number):
    """Return the number after some milliseconds of work."""
    log_start(path, number)
    until = time.monotonic() + 0.01
    while time.monotonic() < until:
        pass
    return number


def answer_large(path, number):
    """Return an array that holds nothing but the number."""
    import numpy

    log_start(path, number)
    return numpy.full(30_000, number)


def raise_value_error(path, number):
    """Raise."""
    log_start(path, number)
    raise ValueError(number)


def exit_without_a_word(path, number):
    """Leave."""
    log_start(path, number)
    os._exit(9)


def segfault(path, number):
    """Crash."""
    log_start(path, number)
    ctypes.string_at(0)


def hang(path, number):
    """Never return."""
    log_start(path, number)
    while True:
        pass


def refuse(path, number):
    """Never return, and swallow the interruption."""
    log_start(path, number)
    while True:
        try:
            while True:
                pass
        except BaseException:
            continue


def stream(path, number, items, width, end):
    """Yield numbered items of some width, and end as `end` says."""
    log_start(path, number)
    for index in range(items):
        yield number, index, bytes(width)
    if end is not None:
        end(os.devnull, number)


async def stream_later(path, number, items, width, end):
    """Do the same, with waits between."""
    log_start(path, number)
    for index in range(items):
        await asyncio.sleep(0)
        yield number, index, bytes(width)
    if end is not None:
        end(os.devnull, number)


def work_a_little(number):
    """Return the number after a millisecond of work."""
    until = time.monotonic() + 0.001
    while time.monotonic() < until:
        pass
    return number
