"""Customers, whose passwords are kept as hashes."""

from __future__ import annotations

import hashlib
import hmac

_ROUNDS = 1_000_000
_KNOWN = {"ada": bytes.fromhex("2a10e1135e8384a79f070c26ee8f2f026da1cf65f06294ba13a3b62e79bf00e6")}


def may_enter(name: str, password: str) -> bool:
    """Return whether it is the password."""
    found = hashlib.pbkdf2_hmac("sha256", password.encode(), name.encode(), _ROUNDS)
    return hmac.compare_digest(found, _KNOWN[name])
