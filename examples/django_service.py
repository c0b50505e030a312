"""A Django project in one file, whose answers say what their request waited for.

    python examples/django_service.py --port 8000
    curl -i 'http://127.0.0.1:8000/reports/blocking/'
    curl -i 'http://127.0.0.1:8000/reports/free/'

``/reports/blocking/`` computes in an asynchronous view: ``Server-Timing`` says for how long that
stopped every other request, and the watch says on standard error which line it was.
``/reports/free/`` computes in a process.
"""

from __future__ import annotations

import argparse
import hashlib

import django
import uvicorn
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

import offloop

ROUNDS = 400_000


def sign(kind: str) -> str:
    """Compute for some tenths of a second."""
    return hashlib.pbkdf2_hmac("sha256", kind.encode(), b"salt", ROUNDS).hex()


async def report(request: HttpRequest, kind: str) -> JsonResponse:
    """Answer with a signature, which is computed where the path says."""
    if kind == "blocking":
        return JsonResponse({"signature": sign(kind)})
    return JsonResponse({"signature": await offloop.to_process(sign, kind)})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8000, help="0 chooses a free one")
    port = parser.parse_args().port
    settings.configure(
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF=(path("reports/<str:kind>/", report),),
        SECRET_KEY="for this example",
        MIDDLEWARE=["offloop.integrations.django.offloop_middleware"],
    )
    django.setup()
    offloop.watch()
    application = get_asgi_application()
    uvicorn.run(application, port=port, loop="offloop:new_event_loop", lifespan="off")
