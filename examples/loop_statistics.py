"""A service that tells how its event loop is doing, in the words of Prometheus.

    python examples/loop_statistics.py --port 8000
    curl 'http://127.0.0.1:8000/block?ms=200'
    curl 'http://127.0.0.1:8000/metrics'

``/block`` does what no handler should: it stops the loop.  ``/metrics`` then shows a lag of that
length, which is how long every other request had to wait.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Iterator

from aiohttp import web

import offloop

LAG_EDGES_SECONDS = (0.0001, 0.001, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
BLOCK_MS_MAX = 1000


def metrics(statistics: offloop.LoopStatistics) -> Iterator[str]:
    """Yield the lines that a Prometheus server reads."""
    yield "# TYPE loop_utilisation gauge"
    yield f"loop_utilisation {statistics.utilisation_10s:.4f}"
    yield "# TYPE loop_connections gauge"
    yield f"loop_connections {statistics.connections}"
    yield "# TYPE loop_callbacks_total counter"
    yield f"loop_callbacks_total {statistics.callbacks}"
    yield "# TYPE loop_bytes_sent_total counter"
    yield f"loop_bytes_sent_total {statistics.bytes_sent}"
    yield "# TYPE loop_lag_seconds histogram"
    lag = statistics.lag
    for edge in LAG_EDGES_SECONDS:
        below = sum(count for end, count in lag.buckets if end <= edge)
        yield f'loop_lag_seconds_bucket{{le="{edge}"}} {below}'
    yield f'loop_lag_seconds_bucket{{le="+Inf"}} {lag.count}'
    yield f"loop_lag_seconds_sum {lag.total:.6f}"
    yield f"loop_lag_seconds_count {lag.count}"


async def tell(_request: web.Request) -> web.Response:
    """Answer with what the running loop has counted."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, offloop.EventLoop)
    return web.Response(text="\n".join([*metrics(loop.statistics()), ""]))


async def block(request: web.Request) -> web.Response:
    """Stop the loop for a while."""
    milliseconds = min(int(request.query["ms"]), BLOCK_MS_MAX)
    time.sleep(milliseconds / 1000)
    return web.Response(text=f"no request was served for {milliseconds} ms\n")


application = web.Application()
application.router.add_get("/metrics", tell)
application.router.add_get("/block", block)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8000, help="0 chooses a free one")
    port = parser.parse_args().port
    web.run_app(application, host="127.0.0.1", port=port, loop=offloop.new_event_loop())
