"""System calls that a filter refuses, as containers do, in this process from now on."""

import ctypes
import platform
import struct

NUMBERS = {
    "x86_64": {
        "clone": 56,
        "clone3": 435,
        "fstatfs": 138,
        "pidfd_send_signal": 424,
        "pipe2": 293,
        "process_vm_readv": 310,
        "statx": 332,
    },
    "aarch64": {
        "clone": 220,
        "clone3": 435,
        "fstatfs": 44,
        "pidfd_send_signal": 424,
        "pipe2": 59,
        "process_vm_readv": 270,
        "statx": 291,
    },
}[platform.machine()]

CLONE_PIDFD = 0x1000

LOAD, JUMP_IF_EQUAL, JUMP_IF_SET, RETURN = 0x20, 0x15, 0x45, 0x06
NUMBER_OFFSET, FIRST_ARGUMENT_OFFSET = 0, 16
ALLOW, ERROR = 0x7FFF0000, 0x00050000
SET_SECCOMP, FILTER, NO_NEW_PRIVILEGES = 22, 2, 38


def forbid(name: str, error: int, flag: int = 0) -> None:
    """Answer every call of this name with an error; if a flag is given, where it is passed."""
    steps = [(LOAD, 0, 0, NUMBER_OFFSET), (JUMP_IF_EQUAL, 0, 3 if flag else 1, NUMBERS[name])]
    if flag:
        steps += [(LOAD, 0, 0, FIRST_ARGUMENT_OFFSET), (JUMP_IF_SET, 0, 1, flag)]
    steps += [(RETURN, 0, 0, ERROR | error), (RETURN, 0, 0, ALLOW)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    header = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for arguments in ((NO_NEW_PRIVILEGES, 1, 0, 0, 0), (SET_SECCOMP, FILTER, header)):
        if prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "the filter was refused")
