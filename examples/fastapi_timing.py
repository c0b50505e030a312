"""A service whose answers say what their request waited for, in the header ``Server-Timing``.

    python examples/fastapi_timing.py --port 8000
    curl -i 'http://127.0.0.1:8000/reports/blocking'
    curl -i 'http://127.0.0.1:8000/reports/free'

``/reports/blocking`` computes on the loop: its answer says for how long that stopped every other
request, and the watch says on standard error which line it was, for which route.
``/reports/free`` computes in a process. Browsers show the header beside each request ("Timing").
"""

from __future__ import annotations

import argparse
import hashlib

import uvicorn
from fastapi import FastAPI

import offloop
from offloop.integrations.asgi import OffloopMiddleware

ROUNDS = 400_000

application = FastAPI()
application.add_middleware(OffloopMiddleware)


def sign(kind: str) -> str:
    """Compute for some tenths of a second."""
    return hashlib.pbkdf2_hmac("sha256", kind.encode(), b"salt", ROUNDS).hex()


@application.get("/reports/{kind}")
async def report(kind: str) -> dict[str, str]:
    """Answer with a signature, which is computed where the path says."""
    if kind == "blocking":
        return {"signature": sign(kind)}
    return {"signature": await offloop.to_process(sign, kind)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8000, help="0 chooses a free one")
    port = parser.parse_args().port
    offloop.watch()
    uvicorn.run(application, port=port, loop="offloop:new_event_loop", log_level="info")
