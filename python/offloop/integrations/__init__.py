"""What joins offloop to the libraries around it, a module for each.

``asgi`` (FastAPI, Starlette, Litestar, Quart and Django as ASGI applications), ``aiohttp``,
``django``, ``structlog``, ``sentry``, ``opentelemetry``.

None of them is imported with ``offloop``. A module whose library is missing raises one
``ImportError`` that says what to install. What goes wrong in one of them goes to
``sys.unraisablehook``; nothing is raised in the program's code.
"""
