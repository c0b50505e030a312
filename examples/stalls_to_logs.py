"""A service that tells structlog and Sentry what has blocked its event loop.

    python examples/stalls_to_logs.py
    SENTRY_DSN=https://... python examples/stalls_to_logs.py

An order is checked on the loop, by a hash that takes long. The log has the line, the cause and the
cure, and the customer that was bound for the order. Without a DSN the event for Sentry is printed
in short instead of sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import os

import sentry_sdk
import structlog

import offloop
from offloop.integrations.sentry import stall_reporter
from offloop.integrations.structlog import stall_logger

ROUNDS = 400_000


def show(event, hint):
    """Print what Sentry would get."""
    exception = event["exception"]["values"][0]
    entry = exception["stacktrace"]["frames"][-1]
    print(f"to Sentry: {exception['type']}, {event['user']['id']}, {entry['context_line'].strip()}")
    return event


async def order(customer: str) -> str:
    """Take an order."""
    structlog.contextvars.bind_contextvars(customer=customer)
    sentry_sdk.get_isolation_scope().set_user({"id": customer})
    return hashlib.pbkdf2_hmac("sha256", customer.encode(), b"salt", ROUNDS).hex()


async def main() -> None:
    """Take one, and wait until it has been told."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    log, report = stall_logger(), stall_reporter()

    def on_stall(stall: offloop.Stall) -> None:
        log(stall)
        report(stall)
        if stall.duration is not None:
            loop.call_soon_threadsafe(told.set)

    with offloop.watch(on_stall=on_stall, words=False):
        await asyncio.create_task(order("ada"))
        await told.wait()


if __name__ == "__main__":
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.LogfmtRenderer(key_order=["event", "customer", "function"]),
        ]
    )
    sentry_sdk.init(dsn=os.environ.get("SENTRY_DSN"), before_send=show)
    offloop.run(main())
