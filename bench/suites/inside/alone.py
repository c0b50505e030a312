"""Runs a command in a network of its own, in which there is nothing but the loopback device.

    python alone.py COMMAND [ARGUMENT ...]

So no suite reaches another machine, and two that run at once cannot take each other's ports. The
names of this network are its own as well: ``/etc/hosts`` is exchanged for the command and its
children.
Nor can a suite that runs as root change the mode of the machine's ``/dev/null``.
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys
import tempfile

SIOCSIFFLAGS = 0x8914
SIOCSIFADDR = 0x8916
IFF_UP = 1
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 0x20, 0x1000, 0x4000, 0x40000
# Since Python 3.12, on which the suites run; mypy checks for the oldest Python of ours.
NAMESPACES: int = os.CLONE_NEWNET | os.CLONE_NEWNS  # type: ignore[attr-defined]

OWN_ADDRESS, OWN_ADDRESS_6 = "192.0.2.1", "2001:db8::1"
"""Addresses of the loopback device beside the usual ones, from those set apart for examples. With
none but the usual ones, the resolver takes the machine for one without a network, and finds no
``localhost``."""

HOSTS = f"127.0.0.1 localhost {socket.gethostname()}\n::1 localhost\n"


def mount(source: str | None, target: str, flags: int) -> None:
    """Mount a file or folder as another one, in our namespace."""
    names = [None if name is None else os.fsencode(name) for name in (source, target)]
    if libc.mount(*names, None, ctypes.c_ulong(flags), None):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), target)


libc = ctypes.CDLL(None, use_errno=True)
is_root = os.geteuid() == 0
if not is_root:
    identity = os.getuid(), os.getgid()
    os.unshare(os.CLONE_NEWUSER | NAMESPACES)  # type: ignore[attr-defined]
    for file, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{identity[0]} {identity[0]} 1"),
        ("gid_map", f"{identity[1]} {identity[1]} 1"),
    ):
        with open(f"/proc/self/{file}", "w") as map_file:
            map_file.write(text)
else:
    os.unshare(NAMESPACES)  # type: ignore[attr-defined]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))
    address = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(OWN_ADDRESS))
    fcntl.ioctl(any_socket, SIOCSIFADDR, struct.pack("16s16s8x", b"lo:1", address))
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as any_socket:
    address = socket.inet_pton(socket.AF_INET6, OWN_ADDRESS_6)
    request = struct.pack("16sIi", address, 128, socket.if_nametoindex("lo"))
    fcntl.ioctl(any_socket, SIOCSIFADDR, request)
mount(None, "/", MS_REC | MS_PRIVATE)
if is_root:
    mount(os.devnull, os.devnull, MS_BIND)
    mount(None, os.devnull, MS_BIND | MS_REMOUNT | MS_RDONLY)
with tempfile.NamedTemporaryFile("w") as hosts:
    hosts.write(HOSTS)
    hosts.flush()
    os.chmod(hosts.name, 0o644)
    mount(hosts.name, "/etc/hosts", MS_BIND)
os.execvp(sys.argv[1], sys.argv[1:])
