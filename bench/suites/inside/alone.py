"""Runs a command in a network of its own, in which there is nothing but the loopback device.

    python alone.py COMMAND [ARGUMENT ...]

So no suite reaches anybody, and two that run at once cannot take each other's ports.
"""

import fcntl
import os
import socket
import struct
import sys

SIOCSIFFLAGS = 0x8914
IFF_UP = 1

if os.geteuid() != 0:
    identity = os.getuid(), os.getgid()
    os.unshare(os.CLONE_NEWUSER | os.CLONE_NEWNET)
    for file, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{identity[0]} {identity[0]} 1"),
        ("gid_map", f"{identity[1]} {identity[1]} 1"),
    ):
        with open(f"/proc/self/{file}", "w") as map_file:
            map_file.write(text)
else:
    os.unshare(os.CLONE_NEWNET)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))
os.execvp(sys.argv[1], sys.argv[1:])
