"""A shop that checks passwords: once on the event loop, and once as it should be."""

import hashlib

import offloop

_ROUNDS = 600_000


def digest(password: str, salt: str) -> bytes:
    """What is kept of a password. It takes a quarter of a second, on purpose."""
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), _ROUNDS)


async def may_enter(name: str, password: str) -> bool:
    """Whether this is the customer; the other customers wait meanwhile."""
    return digest(password, name) != b""


async def may_enter_meanwhile(name: str, password: str) -> bool:
    """The same, on a thread."""
    return await offloop.to_thread(digest, password, name) != b""
