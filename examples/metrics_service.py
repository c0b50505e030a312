"""A service that tells Prometheus of its loop, its calls and its workers, as plain ASGI.

python examples/metrics_service.py --port 8000
curl http://127.0.0.1:8000/            # computes in a process
curl http://127.0.0.1:8000/metrics
"""

from __future__ import annotations

import argparse
import hashlib
from typing import Any

import uvicorn

import offloop


def sign(text: str) -> str:
    """Compute for a while."""
    return hashlib.pbkdf2_hmac("sha256", text.encode(), b"salt", 50_000).hex()


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer ``/metrics`` with the metrics, and anything else with a signature of its path."""
    if scope["type"] != "http":
        return
    if scope["path"] == "/metrics":
        kind, body = "text/plain; version=0.0.4", offloop.metrics()
    else:
        kind, body = "text/plain", await offloop.to_process(sign, scope["path"])
    headers = [(b"content-type", kind.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8000, help="0 chooses a free one")
    port = parser.parse_args().port
    offloop.watch()
    uvicorn.run(
        application, port=port, loop="offloop:new_event_loop", lifespan="off", log_level="info"
    )
