"""All that a worker process imports of offloop; kept light on purpose.

The extension module with the runtime lives here too, so that a worker finds it without importing
the public package, which needs asyncio.
"""
