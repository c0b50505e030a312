"""A FastAPI service that makes thumbnails in processes and stays responsive under any upload.

    python examples/fastapi_service.py --port 8000
    curl --data-binary @photo.jpg 'http://127.0.0.1:8000/thumbnail?edge=200' -o small.jpg

The pool is made once, when the application starts.  Its limits become answers: a picture that takes
too long is 504, a queue that is full is 503, a picture that crashes the decoder is 500, and every
other request goes on.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from PIL import Image, UnidentifiedImageError

import offloop

EDGE_MAX = 2000
SECONDS_MAX = 5.0
QUEUE_MAX = 100


def make_thumbnail(upload: bytes, edge: int) -> bytes:
    """Scale a picture down and encode it as JPEG: the part that thinks."""
    with Image.open(io.BytesIO(upload)) as picture:
        small = picture.convert("RGB")
    small.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    small.save(encoded, "JPEG", quality=85)
    return encoded.getvalue()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the pool with the application, and close it without freezing the loop."""
    async with offloop.ProcessPool(
        preload=["PIL.Image"],
        timeout=SECONDS_MAX,
        max_queue=QUEUE_MAX,
        queue_policy="refuse",
    ) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/thumbnail")
async def thumbnail(request: Request, edge: int = 200) -> Response:
    """Answer an uploaded picture with its thumbnail."""
    if not 1 <= edge <= EDGE_MAX:
        raise HTTPException(422, f"edge must be between 1 and {EDGE_MAX}")
    pool: offloop.ProcessPool = request.app.state.pool
    try:
        small = await pool.run(make_thumbnail, await request.body(), edge)
    except UnidentifiedImageError:
        raise HTTPException(415, "this is not a picture") from None
    except offloop.DeadlineExceeded:
        raise HTTPException(504, "the picture took too long") from None
    except offloop.QueueFull:
        raise HTTPException(503, "too many pictures wait", {"Retry-After": "1"}) from None
    except offloop.WorkerCrashed as crash:
        raise HTTPException(500, f"the picture ended its worker: {crash}") from None
    return Response(small, media_type="image/jpeg")


@app.get("/health")
async def health(request: Request) -> dict[str, int]:
    """Tell that the loop turns, and what the pool does."""
    statistics = request.app.state.pool.statistics()
    return {"running": statistics.running, "queued": statistics.queued}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8000, help="0 chooses a free one")
    uvicorn.run(app, host="127.0.0.1", port=parser.parse_args().port)
